// A table of numbered rows that can be sorted and paged.

// columns: { title, hint, value(row), cell(row) -> node or text, number, kind }
class Table {
  constructor(table, pager, columns, { onChoose, pageSize = 25 }) {
    Object.assign(this, { table, pager, columns, onChoose, rows: [], page: 0, chosen: null, sort: { at: 0, descending: true }, pageSize });
    this.body = element('tbody');
    this.head = element('tr');
    table.replaceChildren(element('thead', {}, this.head), this.body);
  }

  show(rows) {
    this.rows = rows;
    this.arrange();
  }

  arrange() {
    const { at, descending } = this.sort;
    const { value } = this.columns[at];
    const keys = new Map(this.rows.map((row) => [row, value(row)]));
    const sign = descending ? -1 : 1;
    this.ordered = [...this.rows].sort((one, other) => {
      const a = keys.get(one);
      const b = keys.get(other);
      // What has no number comes last, whichever way.
      if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b) || one - other;
      if (a === b) return one - other;
      return (typeof a === 'string' ? a.localeCompare(b, 'en', { numeric: true }) : a - b) * sign;
    });
    this.page = Math.min(this.page, Math.max(0, Math.ceil(this.ordered.length / this.pageSize) - 1));
    this.draw();
  }

  draw() {
    this.drawHead();
    const first = this.page * this.pageSize;
    const shown = this.ordered.slice(first, first + this.pageSize);
    fill(this.body, ...shown.map((row) => this.drawRow(row)));
    if (!shown.length) {
      const text = 'No filter fits. Clear the search, or loosen the thresholds.';
      fill(this.body, element('tr', {}, element('td', { class: 'empty', colspan: this.columns.length }, text)));
    }
    this.drawPager(first, shown.length);
  }

  drawHead() {
    const focused = [...this.head.children].findIndex((cell) => cell.contains(document.activeElement));
    fill(this.head, ...this.columns.map((column, at) => {
      const sorted = this.sort.at === at;
      const arrow = sorted ? (this.sort.descending ? ' ▾' : ' ▴') : '';
      return element(
        'th',
        {
          scope: 'col',
          class: column.number ? 'number' : null,
          'aria-sort': sorted ? (this.sort.descending ? 'descending' : 'ascending') : null,
        },
        element('button', { type: 'button', title: column.hint, onclick: () => this.sortBy(at) }, column.title + arrow),
      );
    }));
    if (focused >= 0) this.head.children[focused].firstChild.focus();
  }

  sortBy(at) {
    const same = this.sort.at === at;
    this.sort = { at, descending: same ? !this.sort.descending : this.columns[at].kind !== 'name' };
    this.page = 0;
    this.arrange();
  }

  drawRow(row) {
    const kind = (column) => column.kind ?? (column.number ? 'number' : null);
    const cells = this.columns.map((column) => element('td', { class: kind(column) }, column.cell(row)));
    return element(
      'tr',
      { class: `row${row === this.chosen ? ' chosen' : ''}`, 'data-row': row, onclick: () => this.choose(row) },
      ...cells,
    );
  }

  choose(row) {
    this.chosen = row;
    for (const line of this.body.children) line.classList.toggle('chosen', Number(line.dataset.row) === row);
    this.onChoose(row);
  }

  drawPager(first, shown) {
    const focused = document.activeElement?.dataset?.turn;
    const turn = (by, text, possible) =>
      element('button', { type: 'button', 'data-turn': by, disabled: !possible, onclick: () => this.turn(by) }, text);
    const total = this.ordered.length;
    fill(
      this.pager,
      turn(-1, 'Previous', this.page > 0),
      element('span', {}, total ? `${whole.format(first + 1)}–${whole.format(first + shown)} of ${whole.format(total)}` : 'none'),
      turn(1, 'Next', first + shown < total),
    );
    if (focused) this.pager.querySelector(`[data-turn="${focused}"]`)?.focus();
  }

  turn(by) {
    this.page += by;
    this.draw();
  }
}
