// Text and elements. Text always goes in as text, never as markup.

const whole = new Intl.NumberFormat('en');
const count = (number, one, many) => `${whole.format(number)} ${number === 1 ? one : many}`;
const percent = (share) => `${(100 * share).toFixed(1)}%`;

function short(number) {
  if (Number.isNaN(number)) return '–';
  const size = Math.abs(number);
  if (size >= 1e7 || (size > 0 && size < 1e-3)) return number.toExponential(1);
  if (size >= 100) return whole.format(Math.round(number));
  return number.toPrecision(3);
}

// element('td', { class: 'number' }, 'text', anotherElement)
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) made.addEventListener(name.slice(2), value);
    else if (name === 'hidden' || name === 'disabled' || name === 'checked') made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// A long dotted name may break after its dots, and only there.
function dotted(name) {
  return name.split('.').flatMap((part, at, parts) => (at < parts.length - 1 ? [`${part}.`, element('wbr')] : [part]));
}

const byId = (id) => document.getElementById(id);
const cssColor = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function fill(container, ...children) {
  container.replaceChildren(...children.filter((child) => child !== null && child !== undefined));
}

function tile(number, text, kind = '') {
  return element('div', { class: `tile ${kind}` }, element('b', {}, number), element('span', {}, text));
}

function facts(container, pairs) {
  fill(container, ...pairs.flatMap(([term, text]) => [element('dt', {}, term), element('dd', {}, text)]));
}

function criteriaText(criteria) {
  const ratio = (value) => (value === null ? 'off' : String(value));
  return `small clusters of at most ${count(criteria.limit, 'image', 'images')} (λ), more than ${ratio(criteria.small_cluster_ratio)} of the clusters (α), CH index above ${ratio(criteria.ch_ratio)} (β) and activation of at least ${ratio(criteria.activation_ratio)} (θ) times the layer’s mean`;
}

function probeText() {
  const { probe } = payload;
  const classes = probe.class_names.length ? `${count(probe.class_names.length, 'class', 'classes')}` : 'no class folders';
  const size = probe.image_size === null ? 'at their own size' : `brought to ${probe.image_size}×${probe.image_size} pixels`;
  return `${whole.format(payload.n_samples)} of ${count(probe.n_available, 'image', 'images')} in ${probe.directory} (${classes}), chosen at random, ${size} (${probe.image_size_origin})`;
}

function normalisationText({ mean, std, statistics_origin: origin }) {
  return `mean ${mean.join(' ')}, standard deviation ${std.join(' ')} (${origin})`;
}

function settingsText() {
  return Object.entries(payload.settings).map(([name, value]) => `${name} = ${value}`).join(', ');
}
