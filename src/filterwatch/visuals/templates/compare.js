// The page of two models on the same images.

const STATUS = ['neither', 'ceased', 'turned', 'both'];
const STATUS_RANK = { turned: 3, ceased: 2, both: 1, neither: 0 };
const BADGES = { turned: 'badge anomaly', ceased: 'badge ceased', both: 'badge', neither: 'badge' };
const statusOf = (filter) => STATUS[state.verdicts[0].flagged[filter] + 2 * state.verdicts[1].flagged[filter]];
const withStatus = (status) => everyFilter.filter((filter) => statusOf(filter) === status);
const changedOnly = addSwitch('changed-only', 'changed filters only', true);

function verdictCell(filter) {
  const status = statusOf(filter);
  return element('span', { class: BADGES[status] }, status);
}

const perRun = (title, hint, value, text = String) => runs.map((run, at) => ({
  title: `${title} ${at + 1}`,
  hint: `${hint} in the ${ORDINALS[at]} model`,
  value: (filter) => value(run, filter),
  cell: (filter) => (isDead(run, filter) ? 'dead' : text(value(run, filter))),
  number: true,
}));
const table = new Table(byId('filter-table'), byId('pager'), [
  { title: 'Change', hint: 'Anomalous in the second only (turned), in the first only (ceased), in both', value: (filter) => STATUS_RANK[statusOf(filter)], cell: verdictCell },
  nameColumn,
  ...perRun('K', 'Number of clusters', (run, filter) => run.clusters[filter]),
  ...perRun('Isolated', 'Images in small clusters', (run, filter) => isolatedCount(run, filter, limit())),
  ...perRun('CH', 'Calinski-Harabasz index', (run, filter) => run.chIndex[filter], short),
  ...perRun('CH / mean', 'Calinski-Harabasz index over the layer’s mean', relativeCh, short),
], { onChoose: chooseFilter, pageSize: 10 });

function isWanted(filter) {
  return !changedOnly.checked || ['turned', 'ceased'].includes(statusOf(filter));
}

function showImages() {
  let unknown = 0;
  for (const [status, run] of [['turned', second], ['ceased', first]]) {
    const found = isolations(run, everyFilter.map((filter) => statusOf(filter) === status), limit());
    const more = found.ordered.length - CARDS;
    const cards = found.ordered.slice(0, CARDS).map(([sample, filters]) => imageCard(sample, {}, element('div', {}, count(filters.length, 'filter', 'filters'))));
    fill(byId(`gallery-${status}`), ...(cards.length ? cards : [hint('None.')]), more > 0 ? hint(`and ${count(more, 'more image', 'more images')}`) : null);
    unknown += found.unknown;
  }
  byId('images-hint').textContent = unknown
    ? `Most isolated first. ${count(unknown, 'filter', 'filters')} flagged at these thresholds cannot be counted: the file does not hold the points.`
    : 'Most isolated first, with the number of filters that isolate the image.';
}

function showChanges() {
  const [turned, ceased, both] = ['turned', 'ceased', 'both'].map((status) => withStatus(status).length);
  const accuracy = (run) => (run.accuracy === null ? '' : `, accuracy ${percent(run.accuracy)}`);
  const counts = state.verdicts.map((verdict) => verdict.count);
  fill(
    byId('tiles'),
    ...runs.map((run, at) => tile(whole.format(counts[at]), `anomaly filters in the ${ORDINALS[at]}${accuracy(run)}`, 'anomaly')),
    tile(whole.format(turned), 'filters turned anomalous'),
    tile(whole.format(ceased), 'ceased to be anomalous'),
    tile(whole.format(both), 'are anomalous in both'),
  );
  fill(
    document.querySelector('.verdict'),
    element('b', { id: 'count', 'data-count': counts.join(' ') }, counts.map((number) => whole.format(number)).join(' → ')),
    ` anomaly filters at these thresholds; ${whole.format(turned)} turned, ${whole.format(ceased)} ceased`,
  );
  showImages();
  const layers = first.layers.map(() => ({ neither: 0, ceased: 0, turned: 0, both: 0 }));
  everyFilter.forEach((filter) => { layers[first.places[filter].layer][statusOf(filter)] += 1; });
  const most = Math.max(...layers.map((layer) => layer.both + Math.max(layer.ceased, layer.turned)));
  drawLayers([
    { title: 'Filters', cell: (at) => whole.format(first.layers[at].filters), number: true },
    { title: 'Anomaly filters in the first', cell: (at) => barred(layers[at].both + layers[at].ceased, most, 'second') },
    { title: 'in the second', cell: (at) => barred(layers[at].both + layers[at].turned, most) },
    { title: 'Turned', cell: (at) => whole.format(layers[at].turned), number: true },
    { title: 'Ceased', cell: (at) => whole.format(layers[at].ceased), number: true },
  ]);
}

start();
if (!table.ordered.length) {
  changedOnly.checked = false;
  showFilters();
  if (table.ordered.length) table.choose(table.ordered[0]);
}
