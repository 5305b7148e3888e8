// The page of one model.

document.body.classList.add('report');
const run = readRun(payload.runs[0]);
const runs = [run];
const everyFilter = Array.from({ length: run.count }, (_, filter) => filter);
const CARDS = 36;

const state = { verdict: null, isolated: null, layer: null, sample: null, chosen: null, cards: CARDS };

const flaggedOnly = element('input', { type: 'checkbox', id: 'flagged-only', onchange: () => showFilters() });
const withChart = element('input', { type: 'checkbox', id: 'with-chart', onchange: () => showFilters() });
byId('switches').append(element('label', {}, flaggedOnly, 'anomaly filters only'), ' ', element('label', {}, withChart, 'with scatter plot only'));
byId('search').addEventListener('input', () => showFilters());

const sliders = new Sliders(byId('sliders'), payload.criteria, update);
const limit = () => sliders.thresholds.limit;
const relativeCh = (filter) => run.chIndex[filter] / run.layers[run.layerOf[filter]].mean_ch;
const relativeActivation = (filter) => run.activation[filter] / run.layers[run.layerOf[filter]].mean_activation;
const criteriaMet = (filter) => [1, 2, 4].filter((bit) => state.verdict.met[filter] & bit).length;

function criteriaCell(filter) {
  if (isDead(run, filter)) return element('span', { class: 'badge' }, 'dead');
  if (state.verdict.flagged[filter]) return element('span', { class: 'badge anomaly' }, 'anomaly');
  return element('span', { class: 'badge' }, `${criteriaMet(filter)} of 3`);
}

function nameCell(filter) {
  const choose = (event) => {
    event.stopPropagation();
    table.choose(filter);
  };
  return element('button', { type: 'button', class: 'plain', onclick: choose }, ...dotted(layerName(run, filter)), `\u00a0·\u00a0${run.channelOf[filter]}`);
}

const table = new Table(byId('filter-table'), byId('pager'), [
  { title: 'Verdict', hint: 'Criteria that hold; all three make an anomaly filter', value: (filter) => (isDead(run, filter) ? NaN : criteriaMet(filter) + relativeCh(filter) / (1 + relativeCh(filter))), cell: criteriaCell, descending: true },
  { title: 'Filter', hint: 'Layer and channel', value: (filter) => filter, cell: nameCell, kind: 'name' },
  { title: 'K', hint: 'Number of clusters', value: (filter) => run.clusters[filter], cell: (filter) => String(run.clusters[filter]), number: true, descending: true },
  { title: 'Small', hint: 'Small clusters', value: (filter) => smallClusters(run, filter, limit()), cell: (filter) => String(smallClusters(run, filter, limit())), number: true, descending: true },
  { title: 'Isolated', hint: 'Images in small clusters', value: (filter) => isolatedCount(run, filter, limit()), cell: (filter) => String(isolatedCount(run, filter, limit())), number: true, descending: true },
  { title: 'CH', hint: 'Calinski-Harabasz index', value: (filter) => run.chIndex[filter], cell: (filter) => short(run.chIndex[filter]), number: true, descending: true },
  { title: 'CH / mean', hint: 'Calinski-Harabasz index over the mean of the layer', value: relativeCh, cell: (filter) => short(relativeCh(filter)), number: true, descending: true },
  { title: 'Act. / mean', hint: 'Mean absolute activation over the mean of the layer', value: relativeActivation, cell: (filter) => short(relativeActivation(filter)), number: true, descending: true },
  { title: 'Cluster sizes', hint: 'Images in each cluster, small clusters bold; sorted by the largest cluster', value: (filter) => run.sizes[filter * run.max_clusters], cell: (filter) => sizesCell(run, filter, limit()), kind: 'sizes', descending: true },
], { onChoose: chooseFilter, sort: { at: 0, descending: true } });

function showFilters() {
  const matches = searchMatcher(run, byId('search').value);
  const isolating = state.sample === null ? null : new Set(state.isolated.bySample.get(state.sample) ?? []);
  table.show(everyFilter.filter((filter) => matches(filter)
    && (!flaggedOnly.checked || state.verdict.flagged[filter])
    && (!withChart.checked || run.chartOf.has(filter))
    && (state.layer === null || run.layerOf[filter] === state.layer)
    && (isolating === null || isolating.has(filter))));
  fill(
    byId('only'),
    state.layer === null ? null : chip(`layer ${run.layers[state.layer].name}`, () => narrow({ layer: null })),
    state.sample === null ? null : chip(`anomaly filters that isolate ${probe.files[state.sample]}`, () => narrow({ sample: null })),
  );
}

function narrow(to) {
  Object.assign(state, to);
  table.page = 0;
  showFilters();
}

function chooseFilter(filter) {
  state.chosen = filter;
  const thresholds = sliders.thresholds;
  const detail = byId('detail');
  const heading = element('h3', {}, `${layerName(run, filter)} · channel ${run.channelOf[filter]} `, criteriaCell(filter));
  if (isDead(run, filter)) {
    fill(detail, heading, element('p', { class: 'hint' }, 'Its map is the same for every image of the probe: there is nothing to cluster.'));
    return;
  }
  const numbers = filterNumbers(run, filter, thresholds);
  if (!run.chartOf.has(filter)) {
    fill(detail, heading, numbers, element('p', { class: 'hint' }, 'This file holds the points of the anomaly filters at the run’s thresholds and of the next in rank, not of this filter. Run again with these thresholds or more --charts to see it.'));
    return;
  }
  const plot = element('div', { class: 'plot', id: 'plot', role: 'img', 'aria-label': `Scatter plot of ${payload.n_samples} images in ${run.clusters[filter]} clusters; the isolated images are listed below` });
  const ring = (sample) => ringSample(plot, run, filter, sample);
  fill(detail, heading, numbers, plot, element('p', { class: 'caption' }, PLOT_CAPTION), outlierCards(runs, run, filter, thresholds.limit, ring));
  drawScatter(plot, run, filter, thresholds.limit, {
    onHover: (sample, event, cluster) => showTooltip(runs, sample, event, element('div', { class: 'file' }, `cluster of ${count(sizesOf(run, filter)[cluster], 'image', 'images')}`)),
    onLeave: hideTooltip,
  });
}

function showImages() {
  const { ordered, unknown } = state.isolated;
  const hint = `${count(ordered.length, 'image is', 'images are')} isolated by at least one anomaly filter, most isolated first. Look for wrong labels, odd crops and rare views.`;
  const missing = unknown ? ` ${count(unknown, 'filter that is', 'filters that are')} flagged at these thresholds ${unknown === 1 ? 'is' : 'are'} not counted here: the file does not hold ${unknown === 1 ? 'its' : 'their'} points.` : '';
  byId('images-hint').textContent = hint + missing;
  fill(byId('gallery'), ...ordered.slice(0, state.cards).map(([sample, filters]) => imageCard(
    runs, sample, {},
    element('button', { type: 'button', class: 'plain', onclick: () => { narrow({ sample, layer: null }); byId('filters').scrollIntoView(); } }, count(filters.length, 'anomaly filter', 'anomaly filters')),
  )));
  const more = byId('more-images');
  more.hidden = ordered.length <= state.cards;
  more.onclick = () => {
    state.cards += 4 * CARDS;
    showImages();
  };
}

function showLayers() {
  const perLayer = run.layers.map(() => ({ flagged: 0, dead: 0 }));
  everyFilter.forEach((filter) => {
    const layer = perLayer[run.layerOf[filter]];
    layer.flagged += state.verdict.flagged[filter];
    layer.dead += isDead(run, filter);
  });
  const most = Math.max(1, ...perLayer.map((layer) => layer.flagged));
  const heads = ['Layer', 'Kind', 'Filters', 'Dead', 'Anomaly filters', 'Mean CH', 'Mean activation'];
  fill(
    byId('layer-table'),
    element('thead', {}, element('tr', {}, ...heads.map((head, at) => element('th', { scope: 'col', class: at > 1 && at !== 4 ? 'number' : null }, head)))),
    element('tbody', {}, ...run.layers.map((layer, at) => {
      const { flagged, dead } = perLayer[at];
      const bar = element('span', { class: 'bar' });
      bar.style.width = `${(120 * flagged) / most}px`;
      const only = () => { narrow({ layer: at, sample: null }); byId('filters').scrollIntoView(); };
      return element(
        'tr', { 'data-layer': layer.name },
        element('td', {}, element('button', { type: 'button', class: 'plain', onclick: only }, ...dotted(layer.name))),
        element('td', {}, layer.kind.replace('_', '-')),
        element('td', { class: 'number' }, whole.format(layer.filters)),
        element('td', { class: 'number' }, whole.format(dead)),
        element('td', {}, whole.format(flagged), flagged ? bar : ''),
        element('td', { class: 'number' }, short(layer.mean_ch ?? NaN)),
        element('td', { class: 'number' }, short(layer.mean_activation ?? NaN)),
      );
    })),
  );
}

function showCounts() {
  const { verdict, isolated } = state;
  const dead = everyFilter.filter((filter) => isDead(run, filter)).length;
  const distinct = distinctSources(run, verdict.flagged);
  const unknown = isolated.unknown ? 'at least ' : '';
  fill(
    byId('tiles'),
    tile(whole.format(verdict.count), `anomaly filters among ${whole.format(run.count)} feature maps`, 'anomaly'),
    tile(whole.format(distinct), 'distinct convolution filters behind them'),
    tile(unknown + whole.format(isolated.ordered.length), `of ${whole.format(payload.n_samples)} images isolated by them`),
    tile(run.accuracy === null ? '–' : percent(run.accuracy), run.accuracy === null ? 'accuracy: no labels to compare with' : 'accuracy on the probe'),
    tile(whole.format(dead), 'dead filters, which are not judged'),
  );
  const atStart = payload.runCount;
  const changed = verdict.count === atStart ? '' : `; ${whole.format(atStart)} at the run’s thresholds`;
  fill(
    document.querySelector('.verdict'),
    element('b', { id: 'count', 'data-count': verdict.count }, whole.format(verdict.count)),
    ` anomaly filters at these thresholds${changed}`,
  );
  sliders.showAlone([verdict]);
}

function update() {
  state.verdict = judge(run, sliders.thresholds);
  payload.runCount ??= state.verdict.count;
  state.isolated = isolations(run, state.verdict.flagged, limit());
  showCounts();
  showFilters();
  showImages();
  showLayers();
  if (state.chosen !== null) chooseFilter(state.chosen);
}

byId('subject').textContent = `${run.name}, ${run.kind}, on ${whole.format(payload.n_samples)} images of ${probe.directory}`;
facts(byId('facts'), [
  ['Model', `${run.name} from ${run.file} (${run.kind})`],
  ['Probe', probeText()],
  ['Normalised by', normalisationText(run.normalisation)],
  ['Thresholds', criteriaText(payload.criteria)],
  ['Clustering', settingsText()],
  ['Time', `${run.seconds} s`],
  ['Made by', `filterwatch ${payload.version}; charts by plotly.js ${Plotly.version}`],
  ...run.notes.map((note) => ['Note', note]),
  ...Object.entries(run.skipped).map(([layer, reason]) => [`Skipped ${layer}`, reason]),
]);
update();
// The strongest filter is what the reader came for.
if (table.ordered.length && !isDead(run, table.ordered[0])) table.choose(table.ordered[0]);
onColorSchemeChange(update);
