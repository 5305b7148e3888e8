// The page of two models on the same images.

document.body.classList.add('compare');
const runs = payload.runs.map(readRun);
const [first, second] = runs;
const everyFilter = Array.from({ length: first.count }, (_, filter) => filter);
const CARDS = 36;
const STATUS = ['neither', 'ceased', 'turned', 'both'];
const state = { verdicts: null, layer: null, chosen: null };

const changedOnly = element('input', { type: 'checkbox', id: 'changed-only', checked: true, onchange: () => showFilters() });
byId('switches').append(element('label', {}, changedOnly, 'changed filters only'));
byId('search').addEventListener('input', () => showFilters());

const sliders = new Sliders(byId('sliders'), payload.criteria, update);
const limit = () => sliders.thresholds.limit;
const statusOf = (filter) => state.verdicts[0].flagged[filter] + 2 * state.verdicts[1].flagged[filter];
const relativeCh = (run, filter) => run.chIndex[filter] / run.layers[run.layerOf[filter]].mean_ch;

function statusCell(filter) {
  const status = STATUS[statusOf(filter)];
  const kind = { turned: 'badge anomaly', ceased: 'badge ceased' }[status] ?? 'badge';
  return element('span', { class: kind }, status);
}

function nameCell(filter) {
  const choose = (event) => {
    event.stopPropagation();
    table.choose(filter);
  };
  return element('button', { type: 'button', class: 'plain', onclick: choose }, ...dotted(layerName(first, filter)), `\u00a0·\u00a0${first.channelOf[filter]}`);
}

const STATUS_ORDER = { turned: 3, ceased: 2, both: 1, neither: 0 };
const perRun = (title, hint, value, cell) => runs.map((run, at) => ({
  title: `${title} ${at + 1}`,
  hint: `${hint} in the ${at ? 'second' : 'first'} model`,
  value: (filter) => value(run, filter),
  cell: (filter) => (isDead(run, filter) ? 'dead' : cell(run, filter)),
  number: true,
  descending: true,
}));
const table = new Table(byId('filter-table'), byId('pager'), [
  { title: 'Change', hint: 'Anomalous in the second only (turned), in the first only (ceased), in both', value: (filter) => STATUS_ORDER[STATUS[statusOf(filter)]], cell: statusCell, descending: true },
  { title: 'Filter', hint: 'Layer and channel', value: (filter) => filter, cell: nameCell, kind: 'name' },
  ...perRun('K', 'Number of clusters', (run, filter) => run.clusters[filter], (run, filter) => String(run.clusters[filter])),
  ...perRun('Isolated', 'Images in small clusters', (run, filter) => isolatedCount(run, filter, limit()), (run, filter) => String(isolatedCount(run, filter, limit()))),
  ...perRun('CH', 'Calinski-Harabasz index', (run, filter) => run.chIndex[filter], (run, filter) => short(run.chIndex[filter])),
  ...perRun('CH / mean', 'Calinski-Harabasz index over the layer’s mean', relativeCh, (run, filter) => short(relativeCh(run, filter))),
], { onChoose: chooseFilter, sort: { at: 0, descending: true }, pageSize: 10 });

function showFilters() {
  const matches = searchMatcher(first, byId('search').value);
  table.show(everyFilter.filter((filter) => matches(filter)
    && (!changedOnly.checked || [1, 2].includes(statusOf(filter)))
    && (state.layer === null || first.layerOf[filter] === state.layer)));
  fill(byId('only'), state.layer === null ? null : chip(`layer ${first.layers[state.layer].name}`, () => narrow(null)));
}

function narrow(layer) {
  state.layer = layer;
  table.page = 0;
  showFilters();
}

function chooseFilter(filter) {
  state.chosen = filter;
  const plots = runs.map((run, at) => element('div', { class: 'plot', id: `plot-${at + 1}`, role: 'img', 'aria-label': `Scatter plot of the ${at ? 'second' : 'first'} model` }));
  const sides = runs.map((run, at) => {
    const heading = element('h3', {}, `${at ? 'Second' : 'First'}: ${run.file} `, state.verdicts[at].flagged[filter] ? element('span', { class: 'badge anomaly' }, 'anomaly') : '');
    if (isDead(run, filter)) return element('div', { class: 'side' }, heading, element('p', { class: 'hint' }, 'Dead: its map is the same for every image.'));
    const numbers = filterNumbers(run, filter, sliders.thresholds);
    if (!run.chartOf.has(filter)) return element('div', { class: 'side' }, heading, numbers, element('p', { class: 'hint' }, 'This file does not hold the points of this filter. Run again with these thresholds or more --charts to see it.'));
    const ring = (sample) => runs.forEach((other, which) => plots[which].isConnected && !isDead(other, filter) && ringSample(plots[which], other, filter, sample));
    return element('div', { class: 'side' }, heading, numbers, plots[at], element('p', { class: 'caption' }, PLOT_CAPTION), outlierCards([run], run, filter, limit(), ring));
  });
  fill(byId('detail'), element('h3', {}, `${layerName(first, filter)} · channel ${first.channelOf[filter]} `, statusCell(filter)), element('div', { class: 'plots' }, ...sides));
  runs.forEach((run, at) => {
    if (!plots[at].isConnected) return;
    const other = runs[1 - at];
    const otherPlot = plots[1 - at];
    const mark = (sample) => otherPlot.isConnected && ringSample(otherPlot, other, filter, sample);
    drawScatter(plots[at], run, filter, limit(), {
      onHover: (sample, event) => { showTooltip(runs, sample, event); mark(sample); },
      onLeave: () => { hideTooltip(); mark(null); },
    });
  });
}

function showImages() {
  let unknown = 0;
  [['gallery-turned', second, 2], ['gallery-ceased', first, 1]].forEach(([id, run, status]) => {
    const flagged = Uint8Array.from(everyFilter, (filter) => (statusOf(filter) === status ? 1 : 0));
    const found = isolations(run, flagged, limit());
    unknown += found.unknown;
    const cards = found.ordered.slice(0, CARDS).map(([sample, filters]) => imageCard(runs, sample, {}, element('div', {}, count(filters.length, 'filter', 'filters'))));
    const more = found.ordered.length > CARDS ? element('p', { class: 'hint' }, `and ${count(found.ordered.length - CARDS, 'more image', 'more images')}`) : null;
    fill(byId(id), ...(cards.length ? cards : [element('p', { class: 'hint' }, 'None.')]), more);
  });
  byId('images-hint').textContent = unknown
    ? `Most isolated first. ${count(unknown, 'filter', 'filters')} flagged at these thresholds cannot be counted: the file does not hold the points.`
    : 'Most isolated first, with the number of filters that isolate the image.';
}

function showLayers() {
  const counts = first.layers.map(() => [0, 0, 0, 0]);
  everyFilter.forEach((filter) => { counts[first.layerOf[filter]][statusOf(filter)] += 1; });
  const most = Math.max(1, ...counts.map(([, ceased, turned, both]) => both + Math.max(ceased, turned)));
  const heads = ['Layer', 'Filters', 'Anomaly filters in the first', 'in the second', 'Turned', 'Ceased'];
  fill(
    byId('layer-table'),
    element('thead', {}, element('tr', {}, ...heads.map((head, at) => element('th', { scope: 'col', class: at === 1 || at > 3 ? 'number' : null }, head)))),
    element('tbody', {}, ...first.layers.map((layer, at) => {
      const [, ceased, turned, both] = counts[at];
      const barred = (number, kind) => {
        const bar = element('span', { class: `bar ${kind}` });
        bar.style.width = `${(120 * number) / most}px`;
        return element('td', {}, whole.format(number), number ? bar : '');
      };
      const only = () => { narrow(at); byId('filters').scrollIntoView(); };
      return element(
        'tr', { 'data-layer': layer.name },
        element('td', {}, element('button', { type: 'button', class: 'plain', onclick: only }, ...dotted(layer.name))),
        element('td', { class: 'number' }, whole.format(layer.filters)),
        barred(both + ceased, 'second'),
        barred(both + turned, ''),
        element('td', { class: 'number' }, whole.format(turned)),
        element('td', { class: 'number' }, whole.format(ceased)),
      );
    })),
  );
}

function showCounts() {
  const totals = [0, 0, 0, 0];
  everyFilter.forEach((filter) => { totals[statusOf(filter)] += 1; });
  const accuracy = (run) => (run.accuracy === null ? '' : `, accuracy ${percent(run.accuracy)}`);
  fill(
    byId('tiles'),
    ...runs.map((run, at) => tile(whole.format(state.verdicts[at].count), `anomaly filters in the ${at ? 'second' : 'first'}${accuracy(run)}`, 'anomaly')),
    tile(whole.format(totals[2]), 'filters turned anomalous'),
    tile(whole.format(totals[1]), 'ceased to be anomalous'),
    tile(whole.format(totals[3]), 'are anomalous in both'),
  );
  fill(
    document.querySelector('.verdict'),
    element('b', { id: 'count', 'data-count': state.verdicts.map((verdict) => verdict.count).join(' ') }, state.verdicts.map((verdict) => whole.format(verdict.count)).join(' → ')),
    ` anomaly filters at these thresholds; ${whole.format(totals[2])} turned, ${whole.format(totals[1])} ceased`,
  );
  sliders.showAlone(state.verdicts);
}

function update() {
  state.verdicts = runs.map((run) => judge(run, sliders.thresholds));
  showCounts();
  showFilters();
  showImages();
  showLayers();
  if (state.chosen !== null) chooseFilter(state.chosen);
}

byId('subject').textContent = `first: ${first.file}; second: ${second.file}; ${whole.format(payload.n_samples)} images of ${probe.directory}`;
facts(byId('facts'), [
  ...runs.map((run, at) => [at ? 'Second' : 'First', `${run.name} from ${run.file} (${run.kind}), ${run.seconds} s`]),
  ['Probe', probeText()],
  ...[...new Set(runs.map((run) => normalisationText(run.normalisation)))].map((text, at, all) => [all.length > 1 ? `Normalised for the ${at ? 'second' : 'first'} by` : 'Normalised by', text]),
  ['Thresholds', criteriaText(payload.criteria)],
  ['Clustering', settingsText()],
  ['Made by', `filterwatch ${payload.version}; charts by plotly.js ${Plotly.version}`],
  ...(payload.unmatched.length ? [['Not in both', payload.unmatched.join(', ')]] : []),
  ...[...new Set([...first.notes, ...second.notes])].map((note) => ['Note', note]),
  ...runs.flatMap((run) => Object.entries(run.skipped).map(([layer, reason]) => [`Skipped ${layer}`, reason])),
]);
update();
if (!table.ordered.length) {
  changedOnly.checked = false;
  showFilters();
}
if (table.ordered.length) table.choose(table.ordered[0]);
onColorSchemeChange(update);
