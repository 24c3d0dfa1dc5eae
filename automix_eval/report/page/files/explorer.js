// The sample explorer: a paged table of questions over the filters' selection.

const PRESETS = {
  all: {},
  rescued: { right0: "wrong", rightFinal: "right", decision: "up" },
  vain: { right0: "right", decision: "up" },
  missed: { right0: "wrong", decision: "kept" },
  harmed: { right0: "right", rightFinal: "wrong", decision: "up" },
};

class Explorer {
  constructor(groups, index) {
    this.groups = groups;
    this.columns = index.columns;
    this.stores = {};
    for (const [name, starts] of Object.entries(index.starts)) this.stores[name] = new Store(name, starts);
    this.rows = new Rows(index.columns, this.stores.t);
    this.width = index.columns.right.length;
    this.form = byId("filters");
    this.body = byId("questions").tBodies[0];
    this.page = 0;
    this.found = [];
    this.turn = 0;
  }

  start() {
    let timer = 0;
    const soon = (delay) => {
      clearTimeout(timer);
      timer = setTimeout(() => this.update(), delay);
    };
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.form.addEventListener("input", (event) => soon(event.target.type === "search" ? 200 : 0));
    this.form.addEventListener("reset", () => soon(0));
    for (const button of document.querySelectorAll("[data-preset]")) {
      button.addEventListener("click", () => this.preset(button.dataset.preset));
    }
    for (const button of document.querySelectorAll("[data-questions-of]")) {
      button.hidden = false;
      button.addEventListener("click", () => this.showGroup(button.dataset.questionsOf));
    }
    for (const button of document.querySelectorAll("[data-go]")) {
      button.addEventListener("click", () => this.go(button.dataset.go));
    }
    byId("page").addEventListener("change", (event) => this.go(Number(event.target.value) - 1));
    this.body.addEventListener("keydown", (event) => this.walk(event));
    addEventListener("keydown", (event) => {
      if (event.key !== "/" || event.ctrlKey || event.metaKey || event.target.closest("input,select,textarea")) return;
      event.preventDefault();
      this.form.elements.text.focus();
    });
    this.tellLeftOut();
    return this.update();
  }

  tellLeftOut() {
    const missing = this.columns.detail.filter((place) => place === null).length;
    if (!missing) return;
    const note = byId("left-out");
    note.textContent = `To keep this file small, verifications, calls and contexts of ${plural(missing, "question")} are left out; they are in the run's own files.`;
    note.hidden = false;
  }

  fields() {
    const fields = Object.fromEntries(new FormData(this.form));
    return { text: "", group: "", decision: "", rightFinal: "", low: "", high: "", order: "", ...fields };
  }

  preset(name) {
    const wanted = PRESETS[name];
    const { elements } = this.form;
    elements.decision.value = wanted.decision ?? "";
    for (let t = 0; t < this.width; t += 1) elements[`right${t}`].value = wanted[`right${t}`] ?? "";
    elements.rightFinal.value = wanted.rightFinal ?? "";
    this.update();
  }

  showGroup(group) {
    this.form.elements.group.value = group;
    this.update();
    byId("samples").scrollIntoView({ block: "start" });
  }

  async update() {
    const turn = (this.turn += 1);
    byId("count").textContent = "searching …";
    const found = await this.rows.select(this.fields());
    if (turn !== this.turn) return;
    this.found = found;
    this.page = 0;
    const total = whole.format(this.rows.count);
    byId("count").textContent = `${whole.format(found.length)} of ${total} questions`;
    await this.draw();
  }

  get size() {
    return Number(byId("size").value);
  }

  get pages() {
    return Math.max(1, Math.ceil(this.found.length / this.size));
  }

  go(where) {
    const target = { first: 0, previous: this.page - 1, next: this.page + 1, last: this.pages - 1 }[where] ?? where;
    if (!Number.isFinite(target)) return this.draw();
    this.page = Math.min(Math.max(0, Math.trunc(target)), this.pages - 1);
    return this.draw();
  }

  async draw() {
    const turn = this.turn;
    const shown = this.found.slice(this.page * this.size, (this.page + 1) * this.size);
    const texts = await Promise.all(shown.map((i) => this.stores.t.get(i)));
    if (turn !== this.turn) return;
    this.body.replaceChildren(...shown.map((i, k) => this.row(i, texts[k])));
    if (!shown.length) {
      const cell = make("td", { colspan: this.width + 6, class: "empty" }, "No question fits these filters.");
      this.body.append(make("tr", {}, cell));
    }
    const field = byId("page");
    field.value = this.page + 1;
    field.max = this.pages;
    byId("pages").textContent = `of ${whole.format(this.pages)}`;
    for (const button of document.querySelectorAll("[data-go]")) {
      const back = ["first", "previous"].includes(button.dataset.go);
      button.disabled = back ? this.page === 0 : this.page >= this.pages - 1;
    }
  }

  row(i, [question]) {
    const { columns } = this;
    const group = this.groups[columns.group[i]];
    const button = make("button", { type: "button", class: "fold", "aria-expanded": "false",
      "aria-label": `Details of question ${columns.doc[i]} of ${group.task}` }, "▸");
    const cells = [make("td", { class: "open" }, button),
      make("td", { class: "id" }, make("span", { class: "task" }, group.task), ` ${columns.doc[i]}`),
      make("td", { class: "question" }, make("span", { class: "clip" }, question.length > 400 ? `${question.slice(0, 400)} …` : question))];
    for (let t = 0; t < this.width; t += 1) cells.push(this.scoreCell(i, t));
    const confidence = this.rows.confidence(i);
    const bar = make("meter", { min: "0", max: "1", value: confidence ?? 0, "aria-hidden": "true" });
    cells.push(make("td", { class: "num", "data-label": "Confidence" }, confidence === null ? "–" : fixed(confidence, 2), confidence === null ? null : bar));
    const final = columns.final[i];
    cells.push(make("td", { "data-label": "Decision" }, final === 0 ? "kept" : make("strong", {}, `→ ${tierName(final, group.tiers)}`)));
    cells.push(make("td", { class: "num", "data-label": "Cost" }, number(columns.cost[i], 4)));
    const row = make("tr", { class: "item" }, ...cells);
    row.addEventListener("click", (event) => {
      if (event.target.closest("button") !== button && getSelection().toString()) return;
      this.toggle(i, row, button);
    });
    return row;
  }

  scoreCell(i, t) {
    const { columns } = this;
    const right = columns.right[t][i];
    const label = byId("questions").tHead.rows[0].cells[3 + t].textContent;
    const cell = make("td", { class: "score", "data-label": label });
    if (!columns.asked[t][i]) cell.append(make("span", { class: "mark none", title: "not asked" }, "·"));
    else {
      const mark = right === null ? "?" : right ? "✓" : "✗";
      const kind = right === null ? "none" : right ? "right" : "wrong";
      const said = right === null ? "not scored" : right ? "right" : "wrong";
      cell.append(make("span", { class: `mark ${kind}`, role: "img", "aria-label": said }, mark), ` ${fixed(columns.score[t][i], 2)}`);
      if (columns.asked[t][i] === 1) cell.classList.add("off");
    }
    return cell;
  }

  async toggle(i, row, button) {
    const open = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!open));
    button.textContent = open ? "▸" : "▾";
    row.classList.toggle("opened", !open);
    if (open) {
      row.nextElementSibling?.matches(".more") && row.nextElementSibling.remove();
      return;
    }
    const body = await detailOf(i, this);
    const stillOpen = button.getAttribute("aria-expanded") === "true" && row.isConnected;
    if (!stillOpen || row.nextElementSibling?.matches(".more")) return;
    row.after(make("tr", { class: "more" }, make("td", { colspan: this.width + 6 }, body)));
  }

  /** Arrow keys go from question to question. */
  walk(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || !event.target.matches(".fold")) return;
    const buttons = [...this.body.querySelectorAll(".fold")];
    const next = buttons[buttons.indexOf(event.target) + step];
    if (!next) return;
    event.preventDefault();
    next.focus();
  }
}

async function startExplorer() {
  const samples = byId("samples");
  if (!samples) return;
  if (typeof DecompressionStream === "undefined") {
    byId("count").textContent = "This browser is too old to open the questions in this file: it has no DecompressionStream (Chrome 80, Firefox 113 or Safari 16.4 have it).";
    return;
  }
  const groups = JSON.parse(byId("groups").textContent);
  const explorer = new Explorer(groups, await openChunk("index"));
  byId("size").addEventListener("change", () => explorer.go(0));
  await explorer.start();
  samples.dataset.ready = "true";
}
