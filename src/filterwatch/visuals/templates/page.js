// What the pages of one model and of two share. Each has its own table, counts and galleries.

const runs = payload.runs.map(readRun);
const [first, second] = runs;
const everyFilter = Array.from({ length: first.count }, (_, filter) => filter);
const CARDS = 36;
const ORDINALS = ['first', 'second'];
const state = { verdicts: [], isolated: null, layer: null, sample: null, chosen: null };
const sliders = new Sliders(byId('sliders'), payload.criteria, () => update());
const limit = () => sliders.thresholds.limit;
byId('search').addEventListener('input', () => showFilters());

function addSwitch(id, text, checked = false) {
  const box = element('input', { type: 'checkbox', id, checked, onchange: () => showFilters() });
  byId('switches').append(element('label', {}, box, text), ' ');
  return box;
}

// Every word of the search must occur in "layer channel"; a number must be the channel or part of the layer.
function searchMatcher(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return (filter) => {
    const layer = layerOf(first, filter).name.toLowerCase();
    const channel = String(first.places[filter].channel);
    return words.every((word) => layer.includes(word) || channel === word);
  };
}

function chip(text, onClear) {
  return element('span', { class: 'chip' }, text, element('button', { type: 'button', 'aria-label': `clear: ${text}`, onclick: onClear }, '×'));
}

function showFilters() {
  const matches = searchMatcher(byId('search').value);
  const { layer, sample } = state;
  table.show(everyFilter.filter((filter) => matches(filter) && isWanted(filter) && (layer === null || first.places[filter].layer === layer)));
  fill(
    byId('only'),
    layer === null ? null : chip(`layer ${first.layers[layer].name}`, () => narrow({ layer: null })),
    sample === null ? null : chip(`anomaly filters that isolate ${probe.files[sample]}`, () => narrow({ sample: null })),
  );
}

function narrow(to) {
  Object.assign(state, to);
  table.page = 0;
  showFilters();
}

function jumpTo(to) {
  narrow(to);
  byId('filters').scrollIntoView();
}

const nameColumn = {
  title: 'Filter',
  hint: 'Layer and channel',
  kind: 'name',
  value: (filter) => filter,
  cell: (filter) => linkButton((event) => {
    event.stopPropagation();
    table.choose(filter);
  }, ...dotted(layerOf(first, filter).name), `\u00a0·\u00a0${first.places[filter].channel}`),
};

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
    second ? element('h3', {}, `${at ? 'Second' : 'First'}: ${run.file} `, state.verdicts[at].flagged[filter] ? element('span', { class: 'badge anomaly' }, 'anomaly') : '') : null,
    ...filterDetail(run, filter, plots[at], ring),
  ));
  const { name } = layerOf(first, filter);
  fill(byId('detail'), element('h3', {}, `${name} · channel ${first.places[filter].channel} `, verdictCell(filter)), element('div', { class: 'plots' }, ...sides));
  runs.forEach((run, at) => plots[at].isConnected && drawScatter(plots[at], run, filter, limit(), {
    onHover: (sample, event, cluster) => {
      const size = count(sizesOf(run, filter)[cluster], 'image', 'images');
      showTooltip(sample, event, element('div', { class: 'file' }, `cluster of ${size}`));
      ring(sample, at);
    },
    onLeave: () => {
      hideTooltip();
      ring(null, at);
    },
  }));
}

function filterDetail(run, filter, plot, ring) {
  if (isDead(run, filter)) return [hint('Its map is the same for every image of the probe: there is nothing to cluster.')];
  const numbers = filterNumbers(run, filter, limit());
  if (!run.chartOf.has(filter)) return [numbers, hint('This file holds the points of the anomaly filters at the run’s thresholds and of the next in rank, not of this filter. Run again with these thresholds or more --charts to see it.')];
  return [numbers, plot, element('p', { class: 'caption' }, PLOT_CAPTION), outlierCards(run, filter, limit(), ring)];
}

function filterNumbers(run, filter, limit) {
  const pair = (name, value) => element('span', {}, `${name} `, element('b', {}, value));
  const source = sourceOf(run, filter);
  return element(
    'p',
    { class: 'numbers' },
    pair('K', String(run.clusters[filter])),
    pair('CH', `${short(run.chIndex[filter])} (${short(relativeCh(run, filter))} × layer’s mean)`),
    pair('activation', `${short(relativeActivation(run, filter))} × layer’s mean`),
    pair('small clusters', `${smallClusters(run, filter, limit)} of ${run.clusters[filter]}`),
    source === null ? null : pair('convolution filter', source),
  );
}

// The first column names the layer. columns: { title, cell(layer position) -> what is in it, number }
function drawLayers(columns) {
  const all = [{ title: 'Layer', cell: (at) => linkButton(() => jumpTo({ layer: at, sample: null }), ...dotted(first.layers[at].name)) }, ...columns];
  const row = ({ name }, at) => element('tr', { 'data-layer': name }, ...all.map(({ number, cell }) => element('td', { class: number ? 'number' : null }, ...[cell(at)].flat())));
  fill(
    byId('layer-table'),
    element('thead', {}, element('tr', {}, ...all.map(({ title, number }) => element('th', { scope: 'col', class: number ? 'number' : null }, title)))),
    element('tbody', {}, ...first.layers.map(row)),
  );
}

// A number with a bar behind it; `most` is the longest bar's number.
function barred(number, most, kind = '') {
  const bar = element('span', { class: `bar ${kind}` });
  bar.style.width = `${(120 * number) / most}px`;
  return [whole.format(number), number ? bar : ''];
}

function update() {
  state.verdicts = runs.map((run) => judge(run, sliders.thresholds));
  sliders.showAlone(state.verdicts);
  showChanges();
  showFilters();
  if (state.chosen !== null) chooseFilter(state.chosen);
}

function start() {
  update();
  // The strongest filter is what the reader came for.
  if (table.ordered.length) table.choose(table.ordered[0]);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', update);
}
