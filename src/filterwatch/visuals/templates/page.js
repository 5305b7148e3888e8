// What the pages of one model and of two share. Each has its own table, counts and galleries.

const runs = payload.runs.map(readRun);
const [first, second] = runs;
const everyFilter = [...first.places.keys()];
const CARDS = isNarrow ? 8 : 24;
const ORDINALS = ['first', 'second'];
const state = { verdicts: [], isolated: null, layer: null, sample: null, chosen: null };
const sliders = new Sliders(byId('sliders'), payload.criteria, () => update());
const limit = () => sliders.thresholds.limit;
const notableOnly = byId('notable-only');
notableOnly.addEventListener('change', () => showFilters());
byId('search').addEventListener('input', () => showFilters());

const nameOf = (run, filter) => `${layerOf(run, filter).name}\u00a0·\u00a0${run.places[filter].channel}`;

function showFilters() {
  const { layer, sample } = state;
  // Every word of the search must be in the layer's name, or be the channel.
  const words = byId('search').value.toLowerCase().split(/\s+/).filter(Boolean);
  const matches = (filter) => words.every((word) => layerOf(first, filter).name.toLowerCase().includes(word) || word === String(first.places[filter].channel));
  table.show(everyFilter.filter((filter) => matches(filter)
    && (!notableOnly.checked || isNotable(filter))
    && (layer === null || first.places[filter].layer === layer)
    && (sample === null || state.isolated.bySample.get(sample)?.includes(filter))));
  const chip = (text, without) => element('span', { class: 'chip' }, text, button(() => narrow(without), '×', { 'aria-label': `clear: ${text}` }));
  fill(
    byId('only'),
    layer === null ? null : chip(`layer ${first.layers[layer].name}`, { layer: null }),
    sample === null ? null : chip(`anomaly filters that isolate ${probe.files[sample]}`, { sample: null }),
  );
}

// Leads to a filter's clusters, from elsewhere on the page.
function show(filter, sample = null) {
  notableOnly.checked = false;
  byId('search').value = '';
  narrow({ layer: null, sample });
  table.choose(filter);
  byId(isNarrow ? 'detail' : 'filters').scrollIntoView();
}

function narrow(to) {
  Object.assign(state, to);
  table.page = 0;
  showFilters();
  byId('filters').scrollIntoView();
}

const nameColumn = {
  title: 'Filter',
  hint: 'Layer and channel',
  kind: 'name',
  value: (filter) => filter,
  // A button for the keyboard's sake: the row is what listens.
  cell: (filter) => element('button', { type: 'button', class: 'plain' }, nameOf(first, filter)),
};
const numberColumn = (title, hint, value, text = String) => ({ title, hint, value, cell: (row) => text(value(row)), kind: 'number' });
const minor = (column) => ({ ...column, kind: `${column.kind ?? ''} minor` }); // a phone leaves it out

// The clusters of a filter in each model. A sample under the pointer or in focus is ringed.
function chooseFilter(filter) {
  state.chosen = filter;
  const plots = runs.map((run, at) => element('div', {
    class: 'plot',
    id: second ? `plot-${at + 1}` : 'plot',
    role: 'img',
    'aria-label': `Scatter plot of ${payload.n_samples} images in ${run.clusters[filter]} clusters${second ? ` of the ${ORDINALS[at]} model` : ''}; the isolated images are listed below`,
  }));
  const ring = (sample, except) => runs.forEach((run, at) => {
    if (at !== except && plots[at].isConnected) ringSample(plots[at], run, filter, sample);
  });
  const sides = runs.map((run, at) => element(
    'div',
    { class: 'side' },
    second ? element('h3', {}, `The ${ORDINALS[at]}: ${run.file} `, state.verdicts[at].flagged[filter] ? badge('anomaly', 'anomaly') : null) : null,
    ...filterDetail(run, filter, plots[at], ring),
  ));
  const heading = element('h3', {}, `${layerOf(first, filter).name} · channel ${first.places[filter].channel} `, verdictCell(filter));
  fill(byId('detail'), heading, element('div', { class: 'plots' }, ...sides));
  runs.forEach((run, at) => plots[at].isConnected && drawScatter(plots[at], run, filter, limit(), (sample, event) => {
    if (sample === null) byId('tooltip').hidden = true;
    else showTooltip(sample, event, clusterLine(run, filter, sample));
    ring(sample, at);
  }));
}

function filterDetail(run, filter, plot, ring) {
  if (isDead(run, filter)) return [hint('Its map is the same for every image of the probe: there is nothing to cluster.')];
  const nearlyDead = isNearlyDead(run, filter) ? hint('Nearly dead: its points coincide within their clusters (it answers to a few images alone), so its CH index is as large as rounding lets it be. It counts for no layer’s mean.') : null;
  const numbers = Object.entries({
    K: run.clusters[filter],
    CH: `${short(run.chIndex[filter])} (${short(relativeCh(run, filter))} × layer’s mean)`,
    activation: `${short(relativeActivation(run, filter))} × layer’s mean`,
    'small clusters': `${smallClusters(run, filter, limit())} of ${run.clusters[filter]}`,
    'convolution filter': sourceOf(run, filter) ?? 'none',
  });
  const shown = element('p', { class: 'numbers' }, ...numbers.map(([name, value]) => element('span', {}, `${name} `, element('b', {}, value))));
  if (!run.chartOf.has(filter)) return [shown, nearlyDead, hint('This file holds the points of the anomaly filters at the run’s thresholds and of the next in rank, not of this filter. Run again with these thresholds or more --charts to see it.')];
  return [shown, nearlyDead, plot, element('p', { class: 'caption' }, 'A point is an image; color and shape tell the clusters apart, a ring marks the small ones. Hover to see the image, drag to move, scroll to zoom, double-click to reset.'), ...outlierCards(run, filter, limit(), ring)];
}

// What to add where filters are flagged whose images the file does not know.
const unknownNote = (unknown) => (unknown ? ` ${count(unknown, 'filter')} flagged at these thresholds cannot be counted: the file does not hold the points.` : '');

// numbers: one for each model.
function showVerdict(numbers, text) {
  fill(byId('thresholds-line'), `Thresholds: ${thresholdsLine(sliders.thresholds)}`);
  fill(document.querySelector('.verdict'), element('b', { id: 'count', 'data-count': numbers.join(' ') }, numbers.map((number) => whole.format(number)).join(' → ')), ` anomaly ${numbers.at(-1) === 1 ? 'filter' : 'filters'} at these thresholds${text}`);
}

// The first column names the layer; a column's row is a layer's position.
function drawLayers(columns) {
  const all = [{ title: 'Layer', hint: 'In forward order; choose one to see its filters', cell: (at) => linkButton(() => narrow({ layer: at, sample: null }), first.layers[at].name) }, ...columns];
  fill(
    byId('layer-table'),
    element('thead', {}, element('tr', {}, ...all.map(({ title, hint: meaning, kind = '' }) => element('th', { scope: 'col', class: kind, title: meaning }, title)))),
    element('tbody', {}, ...first.layers.map(({ name }, at) => element('tr', { 'data-layer': name }, ...cellsOf(all, at)))),
  );
}

// A number with a bar behind it; `most` is the longest bar's number.
function barred(number, most, kind = '') {
  const bar = element('span', { class: `bar ${kind}` });
  bar.style.width = `${((!isNarrow ? 120 : second ? 36 : 60) * number) / Math.max(most, 1)}px`;
  return element('span', { class: 'barred' }, whole.format(number), bar);
}

function update() {
  state.verdicts = runs.map((run) => judge(run, sliders.thresholds));
  showChanges();
  showFilters();
  if (state.chosen !== null) chooseFilter(state.chosen);
}

function start() {
  if (payload.memorization) drawMemorization(payload.memorization);
  update();
  if (!table.ordered.length) {
    notableOnly.checked = false;
    showFilters();
  }
  // The strongest filter is what the reader came for, or the one that comes nearest.
  const nearest = state.verdicts.some((verdict) => verdict.count) ? null : nearestFilter(first, sliders.thresholds);
  if (table.ordered.length) table.choose(nearest?.filter ?? table.ordered[0]);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', update);
}
