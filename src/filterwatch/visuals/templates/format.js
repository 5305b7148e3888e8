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
  fill(made, ...children);
  return made;
}

function fill(container, ...children) {
  container.replaceChildren(...children.filter((child) => child !== null && child !== undefined));
}

const byId = (id) => document.getElementById(id);
const cssColor = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const hint = (text) => element('p', { class: 'hint' }, text);
const linkButton = (onclick, ...content) => element('button', { type: 'button', class: 'plain', onclick }, ...content);

// A long dotted name may break after its dots, and only there.
function dotted(name) {
  return name.split('.').flatMap((part, at, parts) => (at < parts.length - 1 ? [`${part}.`, element('wbr')] : [part]));
}

function tile(number, text, kind = '') {
  return element('div', { class: `tile ${kind}` }, element('b', {}, number), element('span', {}, text));
}
