// Which questions are listed, and in which order.

/** The questions' columns and the tests of the form's fields on them. */
class Rows {
  constructor(columns, texts) {
    this.columns = columns;
    this.texts = texts;
    this.count = columns.doc.length;
    this.haystack = null;
  }

  /** Lower-case text of every question, with references and answers; read on the first search. */
  async search() {
    if (!this.haystack) {
      const flat = ([question, references, answers, document]) =>
        [question, ...references, ...answers.filter((a) => a !== null), document].join("\n").toLowerCase();
      this.haystack = (await this.texts.all()).map(flat);
    }
    return this.haystack;
  }

  /** Confidence that the first tier with a confidence gave; null without one. */
  confidence(i) {
    for (const column of this.columns.confidence) if (column[i] !== null) return column[i];
    return null;
  }

  /** By how much the last tier asked scores above the first; null where either is unknown. */
  gain(i) {
    const { score } = this.columns;
    const first = score[0][i];
    for (let t = score.length - 1; t > 0; t -= 1) {
      if (score[t][i] !== null && first !== null) return score[t][i] - first;
    }
    return null;
  }

  tests(fields) {
    const { columns } = this;
    const tests = [];
    if (fields.group !== "") tests.push((i) => columns.group[i] === Number(fields.group));
    if (fields.decision === "kept") tests.push((i) => columns.final[i] === 0);
    else if (fields.decision === "up") tests.push((i) => columns.final[i] > 0);
    else if (fields.decision !== "") tests.push((i) => columns.final[i] === Number(fields.decision));
    if (fields.rightFinal !== "") {
      const wanted = fields.rightFinal === "right";
      tests.push((i) => columns.right[columns.final[i]][i] === wanted);
    }
    for (const [t, right] of columns.right.entries()) {
      const wanted = fields[`right${t}`];
      if (wanted === "right") tests.push((i) => right[i] === true);
      if (wanted === "wrong") tests.push((i) => right[i] === false);
      if (wanted === "none") tests.push((i) => columns.asked[t][i] === 0);
    }
    if (fields.low !== "") tests.push((i) => this.confidence(i) !== null && this.confidence(i) >= Number(fields.low));
    if (fields.high !== "") tests.push((i) => this.confidence(i) !== null && this.confidence(i) <= Number(fields.high));
    return tests;
  }

  async select(fields) {
    const tests = this.tests(fields);
    const words = fields.text.toLowerCase().split(/\s+/).filter(Boolean);
    if (words.length) {
      const haystack = await this.search();
      tests.push((i) => words.every((word) => haystack[i].includes(word)));
    }
    const found = [];
    for (let i = 0; i < this.count; i += 1) if (tests.every((test) => test(i))) found.push(i);
    return this.sort(found, fields.order);
  }

  sort(found, order) {
    const [name, way] = order.split("-");
    const key = {
      confidence: (i) => this.confidence(i),
      cost: (i) => this.columns.cost[i],
      gain: (i) => this.gain(i),
    }[name];
    if (!key) return found;
    const keyed = found.map((i) => [key(i), i]);
    keyed.sort((a, b) => compareKeys(a[0], b[0], way === "up" ? 1 : -1) || a[1] - b[1]);
    return keyed.map(([, i]) => i);
  }
}
