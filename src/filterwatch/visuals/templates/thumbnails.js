// Images of the probe, cut out of one sheet, with what is known about them.

const { sprite, probe } = payload;

// One blob instead of a data URI in every style: the browser decodes it once.
function showSheet({ data_uri: uri }, name) {
  const sheet = new Blob([bytesOf(uri.split(',')[1])], { type: 'image/webp' });
  document.head.append(element('style', {}, `.thumb.${name} { background-image: url("${URL.createObjectURL(sheet)}"); }`));
}
showSheet(sprite, 'of-probe');

// An image by its place in a sheet.
function cutOut({ side: own, columns, rows }, sheet, place, side, text) {
  const made = element('span', { class: `thumb ${sheet} ${own < 64 ? 'small-pixels' : ''}`, role: 'img', 'aria-label': text });
  const [column, row] = [place % columns, Math.floor(place / columns)];
  Object.assign(made.style, {
    width: `${side}px`,
    height: `${side}px`,
    backgroundSize: `${columns * side}px ${rows * side}px`,
    backgroundPosition: `-${column * side}px -${row * side}px`,
  });
  return made;
}

const thumbnail = (sample, side) => cutOut(sprite, 'of-probe', sample, side, probe.files[sample]);

// "✓ predicted cat (87%)", marked and coloured only where the folder's classes are the model's.
function predictionLine(run, sample, whose) {
  if (run.predictions === null) return null;
  const predicted = run.predictions[sample];
  const text = `predicted ${run.output_names[predicted]} (${Math.round(100 * run.confidences[sample])}%)`;
  const right = predicted === probe.labels?.[sample];
  return element('div', { class: !run.comparable ? '' : right ? 'right' : 'wrong' }, `${whose}${!run.comparable ? '' : right ? '✓ ' : '✗ '}${text}`);
}

function imageLines(sample, shown = runs) {
  const { files, labels, class_names: names } = probe;
  return [
    labels === null ? null : element('div', {}, `label ${names[labels[sample]]}`),
    ...shown.map((run, at) => predictionLine(run, sample, shown.length > 1 ? `${ORDINALS[at]}: ` : '')),
    element('div', { class: 'file', title: files[sample] }, files[sample]),
  ];
}

function imageCard(sample, extra, { side = 96, shown = runs, ...attributes } = {}) {
  return element('div', { class: 'card', 'data-sample': sample, ...attributes }, thumbnail(sample, side), ...imageLines(sample, shown), extra);
}

// The cards of some items, and a button for the others.
function gallery(items, card, shown) {
  const box = element('div', { class: 'gallery' }, ...items.slice(0, shown).map(card));
  if (items.length > shown) box.append(button(() => fill(box, ...items.map(card)), `Show all ${whole.format(items.length)}`));
  return box;
}

const clusterLine = (run, filter, sample) => element('div', { class: 'file' }, `cluster of ${count(sizesOf(run, filter)[labelsOf(run, filter)[sample]], 'image')}`);

// The images of a filter's small clusters, the smallest cluster first; ring(sample or null) marks
// an image in the plot.
function outlierCards(run, filter, limit, ring) {
  const clusters = labelsOf(run, filter);
  const outliers = outliersOf(run, filter, limit).sort((one, other) => clusters[other] - clusters[one] || one - other);
  if (!outliers.length) return [hint('It has no small cluster, so it isolates no image.')];
  const card = (sample) => imageCard(sample, clusterLine(run, filter, sample), {
    side: 72,
    shown: [run],
    tabindex: 0,
    onmouseenter: () => ring(sample),
    onmouseleave: () => ring(null),
    onfocus: () => ring(sample),
    onblur: () => ring(null),
  });
  return [element('h3', {}, `${count(outliers.length, 'image')} in small clusters`), gallery(outliers, card, isNarrow ? 6 : 24)];
}

function showTooltip(sample, event, extra) {
  showBeside(event, thumbnail(sample, 128), ...imageLines(sample), extra);
  byId('tooltip').dataset.sample = sample;
}

function showBeside({ clientX, clientY }, ...content) {
  const tooltip = byId('tooltip');
  fill(tooltip, ...content);
  tooltip.hidden = false;
  const { width, height } = tooltip.getBoundingClientRect();
  const left = clientX + 18 + width > innerWidth ? clientX - 18 - width : clientX + 18;
  const top = Math.min(Math.max(8, clientY - height / 2), innerHeight - height - 8);
  Object.assign(tooltip.style, { left: `${Math.max(8, left)}px`, top: `${top}px` });
}
