// What was learned by heart: layers, over epochs where they are known, and training images.

const signed = (number) => (number === null ? '–' : `${number < -0.005 ? '−' : '+'}${Math.abs(number).toFixed(2)}`);
const plusMinus = (value, error) => `${signed(value)} ± ${(error ?? NaN).toFixed(2)} nats`;
const ROW_NAMES = { joint: 'all hidden layers together', output: 'output (generalization gap)' };

function drawMemorization(found) {
  const beyond = found.beyond_chance > 3 * found.beyond_chance_error;
  const deepest = found.rows.filter(({ kind }) => !(kind in ROW_NAMES)).at(-1);
  const against = deepest.significant && found.memorization < 0;
  const meaning = !deepest.significant ? 'within chance' : against ? 'below 0: it speaks against training labels, which may be wrong' : 'it knows training labels that new images do not have';
  fill(
    byId('memorization-tiles'),
    tile(beyond ? `${whole.format(Math.round(found.beyond_chance))} ± ${Math.round(found.beyond_chance_error)}` : '0', `of ${whole.format(found.n_training)} training images learned by heart beyond chance`, beyond ? 'anomaly' : ''),
    tile(signed(found.memorization), `nats: memorization of ${deepest.name}, the deepest hidden layer; ${meaning}`, !deepest.significant ? '' : against ? 'cool' : 'anomaly'),
    tile(signed(found.gap), 'nats: generalization gap, the same at the network’s output'),
  );
  if (found.epochs) drawEpochs(found.epochs);
  else drawBars(found.rows);
  const total = found.n_memorized;
  byId('memorized-hint').textContent = total === 0
    ? 'None: where the hidden layers speak against a label, the network does not give it either.'
    : `${beyond ? 'Look here for wrong labels: they come first where there are any; others are hard. ' : 'No more than among as many new images: this is chance. '}The network gives ${total === 1 ? 'this image its' : `these ${whole.format(total)} images their`} label; what its hidden layers know from other images speaks for another class (“rather”).${total > found.samples.length ? ` The first ${found.samples.length} are here.` : ''}`;
  if (!found.sprite) return;
  showSheet(found.sprite, 'of-training');
  fill(byId('memorized'), gallery(found.samples.map((sample, place) => ({ sample, place })), (item) => memorizedCard(found.sprite, item), CARDS_OF_MEMORIZED));
}

const CARDS_OF_MEMORIZED = isNarrow ? 8 : 16;

function memorizedCard(sheet, { sample, place }) {
  const picture = (side) => cutOut(sheet, 'of-training', place, side, sample.file);
  const lines = () => [
    element('div', {}, 'label ', element('b', {}, sample.label)),
    element('div', { class: 'wrong' }, 'rather ', element('b', {}, sample.rather)),
    element('div', { title: 'Log probability of the label by what the hidden layers know from other images, in nats' }, `evidence ${signed(sample.evidence)}`),
    sample.confidence === null ? null : element('div', {}, `network: ${Math.round(100 * sample.confidence)}%`),
    element('div', { class: 'file', title: sample.file }, sample.file),
  ];
  const hide = () => { byId('tooltip').hidden = true; };
  const enlarge = (at) => {
    showBeside(at, picture(192), ...lines());
    byId('tooltip').dataset.training = sample.index;
  };
  return element('div', {
    class: 'card',
    'data-training': sample.index,
    tabindex: 0,
    onmousemove: enlarge,
    onmouseleave: hide,
    onfocus: ({ target }) => {
      const { right, top, height } = target.getBoundingClientRect();
      enlarge({ clientX: right - 18, clientY: top + height / 2 });
    },
    onblur: hide,
  }, picture(96), ...lines());
}

// A value's color: white at zero, of full strength at the limit below or above it.
function tint(cell, value, [coolest, warmest]) {
  const limit = value < 0 ? -coolest : warmest;
  cell.style.setProperty('--strength', `${Math.min(100, (100 * Math.abs(value)) / limit).toFixed(1)}%`);
  cell.classList.add(value < 0 ? 'cool' : 'warm');
}

function drawEpochs({ layers, epochs, values, errors, limits, lowest_loss: lowest }) {
  // Through the epoch of the lowest validation loss, or ahead of the next that is shown.
  const marked = lowest === null || lowest < epochs[0] ? -1 : epochs.findIndex((epoch) => epoch >= lowest);
  const line = marked < 0 ? '' : epochs[marked] === lowest ? 'lowest' : 'lowest ahead';
  const every = Math.ceil(epochs.length / (isNarrow ? 4 : 12));
  const cells = (row) => epochs.map((epoch, at) => {
    const [value, error] = [values[row][at], errors[row][at]];
    const text = value === null ? 'not measured' : plusMinus(value, error);
    const marks = Math.abs(value) > 3 * error;
    const cell = element('td', { class: `cell ${at === marked ? line : ''}`, title: `${layers[row]}, epoch ${epoch}: ${text}` }, value !== null && marks ? '•' : '');
    if (value !== null) tint(cell, value, limits);
    return cell;
  });
  const isOutput = (row) => layers[row] === 'output';
  fill(
    byId('memorization-layers'),
    element('tbody', { class: 'map' }, ...layers.map((name, row) => element('tr', { 'data-layer': name, class: isOutput(row) ? 'apart' : null }, element('th', { scope: 'row' }, isOutput(row) ? ROW_NAMES.output : name), ...cells(row), element('td', { class: 'number' }, signed(values[row].at(-1)))))),
    element('tfoot', {}, element('tr', {}, element('th', { scope: 'col' }, 'epoch'), ...epochs.map((epoch, at) => element('td', {}, at % every === 0 ? epoch : '')), element('td', { class: 'number' }, isNarrow ? epochs.at(-1) : `epoch ${epochs.at(-1)}`))),
  );
  const exceeds = values.some((row) => row.some((value) => value !== null && (value < limits[0] - 1e-3 || value > limits[1] + 1e-3)));
  byId('memorization-caption').textContent = `Layers down, epochs across. Red: knows training labels by heart, up to +${limits[1].toFixed(2)} nats${exceeds ? ', which the output exceeds' : ''}. Blue: speaks against training labels, down to ${limits[0].toFixed(2).replace('-', '−')} nats. •: beyond three standard errors.${marked < 0 ? '' : ` The line: lowest validation loss, epoch ${lowest}.`}`;
}

function drawBars(rows) {
  const reach = ({ value, error }) => Math.abs(value) + 3 * error;
  const hidden = rows.filter(({ kind }) => !(kind in ROW_NAMES));
  const limit = Math.min(Math.max(...rows.map(reach)), 3 * Math.max(...hidden.map(reach))) || 1;
  const bar = ({ value, error, significant }) => {
    const at = (number) => 50 + 50 * Math.max(-1, Math.min(1, number / limit));
    const span = (kind, from, to) => {
      const made = element('span', { class: kind });
      Object.assign(made.style, { left: `${Math.min(at(from), at(to))}%`, width: `${Math.abs(at(to) - at(from))}%` });
      return made;
    };
    return element('div', { class: 'both-ways' }, span(`length ${!significant ? '' : value < 0 ? 'cool' : 'warm'}`, 0, value), span('error', value - 3 * error, value + 3 * error));
  };
  fill(
    byId('memorization-layers'),
    element('tbody', { class: 'bars' }, ...rows.map((row) => element('tr', { 'data-layer': row.name, class: row.kind === 'joint' ? 'apart' : null }, element('th', { scope: 'row' }, ROW_NAMES[row.kind] ?? row.name), element('td', {}, bar(row)), element('td', { class: 'number' }, plusMinus(row.value, row.error))))),
  );
  const exceeds = rows.some(({ value }) => Math.abs(value) > limit);
  byId('memorization-caption').textContent = `Red: knows training labels by heart. Blue: speaks against training labels. Gray: within three standard errors of 0, which the lines show.${exceeds ? ' A bar that reaches the edge goes on beyond it.' : ''}`;
}
