// Images of the probe, cut out of one sheet, with what is known about them.

const { sprite, probe } = payload;

// One blob instead of a data URI in every style: the browser decodes it once.
const sheetUrl = (() => {
  const [, data] = sprite.data_uri.split(',');
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  return URL.createObjectURL(new Blob([bytes], { type: 'image/webp' }));
})();
document.head.append(element('style', {}, `.thumb { background-image: url("${sheetUrl}"); }`));

function thumbnail(sample, side) {
  const small = sprite.side < 64 ? ' small-pixels' : '';
  const made = element('span', { class: `thumb${small}`, role: 'img', 'aria-label': probe.files[sample] });
  const column = sample % sprite.columns;
  const row = Math.floor(sample / sprite.columns);
  Object.assign(made.style, {
    width: `${side}px`,
    height: `${side}px`,
    backgroundSize: `${sprite.columns * side}px ${sprite.rows * side}px`,
    backgroundPosition: `-${column * side}px -${row * side}px`,
  });
  return made;
}

// "predicted cat (87%)", coloured only where the folder's classes are the model's.
function predictionLine(run, sample) {
  if (run.predictions === null) return null;
  const predicted = run.predictions[sample];
  const text = `predicted ${run.output_names[predicted]} (${Math.round(100 * run.confidences[sample])}%)`;
  if (!run.comparable) return element('div', {}, text);
  const right = predicted === probe.labels[sample];
  return element('div', { class: right ? 'right' : 'wrong' }, `${right ? '✓' : '✗'} ${text}`);
}

function imageLines(sample, shown = runs) {
  const { labels, class_names: names } = probe;
  return [
    labels === null ? null : element('div', { class: 'label' }, `label ${names[labels[sample]]}`),
    ...shown.map((run, at) => {
      const line = predictionLine(run, sample);
      if (shown.length > 1) line?.prepend(`${ORDINALS[at]}: `);
      return line;
    }),
    element('div', { class: 'file', title: probe.files[sample] }, probe.files[sample]),
  ];
}

function imageCard(sample, { side = 96, shown = runs, ...options }, ...extra) {
  return element('div', { class: 'card', 'data-sample': sample, ...options }, thumbnail(sample, side), ...imageLines(sample, shown), ...extra);
}

// The images of a filter's small clusters, the smallest cluster first; ring(sample or null) marks
// an image in the plot. Many stay folded up until asked for.
function outlierCards(run, filter, limit, ring, shown = 24) {
  const sizes = sizesOf(run, filter);
  const clusters = labelsOf(run, filter);
  const outliers = outliersOf(run, filter, limit);
  outliers.sort((one, other) => clusters[other] - clusters[one] || one - other);
  const groups = [];
  outliers.slice(0, shown).forEach((sample) => {
    const cluster = clusters[sample];
    if (!groups.length || groups.at(-1).cluster !== cluster) groups.push({ cluster, samples: [] });
    groups.at(-1).samples.push(sample);
  });
  const card = (sample) => imageCard(sample, {
    side: 72,
    shown: [run],
    tabindex: 0,
    onmouseenter: () => ring(sample),
    onmouseleave: () => ring(null),
    onfocus: () => ring(sample),
    onblur: () => ring(null),
  });
  const box = element(
    'div',
    { class: 'outliers' },
    element('h3', {}, `${count(outliers.length, 'image', 'images')} in small clusters`),
    ...groups.flatMap(({ cluster, samples }) => [
      element('h4', {}, `cluster of ${count(sizes[cluster], 'image', 'images')}`),
      element('div', { class: 'gallery' }, ...samples.map(card)),
    ]),
  );
  if (outliers.length > shown) {
    const all = () => box.replaceWith(outlierCards(run, filter, limit, ring, Infinity));
    box.append(element('p', {}, element('button', { type: 'button', onclick: all }, `Show all ${whole.format(outliers.length)}`)));
  }
  return box;
}

function showTooltip(sample, event, ...extra) {
  const tooltip = byId('tooltip');
  fill(tooltip, thumbnail(sample, 128), ...imageLines(sample), ...extra);
  tooltip.dataset.sample = sample;
  tooltip.hidden = false;
  const { width, height } = tooltip.getBoundingClientRect();
  const left = event.clientX + 18 + width > innerWidth ? event.clientX - 18 - width : event.clientX + 18;
  const top = Math.min(Math.max(8, event.clientY - height / 2), innerHeight - height - 8);
  Object.assign(tooltip.style, { left: `${Math.max(8, left)}px`, top: `${top}px` });
}

function hideTooltip() {
  byId('tooltip').hidden = true;
}
