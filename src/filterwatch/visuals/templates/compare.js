// The page of two models on the same images.

const STATUS = ['neither', 'ceased', 'turned', 'both'];
const RANKS = ['neither', 'both', 'ceased', 'turned'];
const statusOf = (filter) => STATUS[state.verdicts[0].flagged[filter] + 2 * state.verdicts[1].flagged[filter]];
const isNotable = (filter) => ['turned', 'ceased'].includes(statusOf(filter));
const verdictCell = (filter) => badge(statusOf(filter), statusOf(filter));

const perRun = (title, hint, value, text = String) => runs.map((run, at) => ({
  ...numberColumn(`${title} ${at + 1}`, `${hint} in the ${ORDINALS[at]} model`, (filter) => value(run, filter)),
  cell: (filter) => (isDead(run, filter) ? 'dead' : text(value(run, filter))),
}));
const table = new Table(byId('filter-table'), byId('pager'), [
  { title: 'Change', hint: 'Anomalous in the second only (turned), in the first only (ceased), in both', value: (filter) => RANKS.indexOf(statusOf(filter)), cell: verdictCell },
  nameColumn,
  ...perRun('K', 'Number of clusters', (run, filter) => run.clusters[filter]),
  ...perRun('Isolated', 'Images in small clusters', (run, filter) => isolatedCount(run, filter, limit())),
  ...perRun('CH', 'Calinski-Harabasz index', (run, filter) => run.chIndex[filter], short),
  ...perRun('CH / mean', 'Calinski-Harabasz index over the layer’s mean', relativeCh, short),
], { onChoose: chooseFilter, pageSize: 10 });

// Shows the images that filters isolate which are flagged in this run only.
function showImages(status, run) {
  const { ordered, unknown } = isolations(run, everyFilter.map((filter) => statusOf(filter) === status), limit());
  const card = ([sample, filters]) => imageCard(sample, element('div', {}, count(filters.length, 'filter')));
  fill(byId(`gallery-${status}`), ordered.length ? gallery(ordered, card, CARDS) : hint('None.'));
  return unknown;
}

function showChanges() {
  const layers = first.layers.map(() => ({ neither: 0, ceased: 0, turned: 0, both: 0 }));
  everyFilter.forEach((filter) => { layers[first.places[filter].layer][statusOf(filter)] += 1; });
  const [turned, ceased, both] = ['turned', 'ceased', 'both'].map((status) => whole.format(layers.reduce((sum, layer) => sum + layer[status], 0)));
  const counts = state.verdicts.map((verdict) => verdict.count);
  const accuracy = (run) => (run.accuracy === null ? '' : `, accuracy ${percent(run.accuracy)}`);
  fill(
    byId('tiles'),
    ...runs.map((run, at) => tile(whole.format(counts[at]), `anomaly filters in the ${ORDINALS[at]}${accuracy(run)}`, 'anomaly')),
    tile(turned, 'filters turned anomalous'),
    tile(ceased, 'ceased to be anomalous'),
    tile(both, 'are anomalous in both'),
  );
  showVerdict(counts, `; ${turned} turned, ${ceased} ceased`);
  const unknown = showImages('turned', second) + showImages('ceased', first);
  byId('images-hint').textContent = `Most isolated first, with the number of filters that isolate the image.${unknownNote(unknown)}`;
  const most = Math.max(...layers.map((layer) => layer.both + Math.max(layer.ceased, layer.turned)));
  drawLayers([
    numberColumn('Filters', null, (at) => first.layers[at].filters, whole.format),
    { title: 'Anomaly filters in the first', cell: (at) => barred(layers[at].both + layers[at].ceased, most, 'second') },
    { title: 'in the second', cell: (at) => barred(layers[at].both + layers[at].turned, most) },
    numberColumn('Turned', null, (at) => layers[at].turned, whole.format),
    numberColumn('Ceased', null, (at) => layers[at].ceased, whole.format),
  ]);
}

start();
