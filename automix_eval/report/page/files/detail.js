// Everything known of one question, shown below its row when it is opened.

const tierName = (t, chain) => (t === 0 ? "SLM" : t === chain.length - 1 ? "LLM" : `Tier ${t}`);

function verdictOf(right) {
  if (right === null) return make("span", { class: "mark none" }, "not scored");
  return make("span", { class: `mark ${right ? "right" : "wrong"}` }, right ? "✓ right" : "✗ wrong");
}

function textBlock(text) {
  if (text.trim() === "") return make("p", { class: "empty" }, "(empty)");
  return make("pre", { class: "text", tabindex: "0" }, text);
}

function pairs(entries) {
  const list = make("dl", {});
  for (const [name, value] of entries) list.append(make("dt", {}, name), make("dd", {}, value));
  return list;
}

function callLine(sums) {
  const parts = [plural(sums.calls, "call")];
  if (sums.prompt !== null) parts.push(`${plural(sums.prompt, "prompt token")}`);
  if (sums.generated !== null) parts.push(`${plural(sums.generated, "token")} generated`);
  if (sums.seconds !== null) parts.push(`${number(sums.seconds, 3)} s`);
  parts.push(sums.cost === null ? "cost unknown" : `cost ${number(sums.cost, 4)}`);
  return parts.join(" · ");
}

function verifierSamples(found) {
  const drawn = found.samples.reduce((sum, [, times]) => sum + times, 0);
  const different = found.samples.length;
  const label = `${plural(drawn, "verifier sample")}${different < drawn ? ` (${different} different)` : ""}`;
  const items = found.samples.map(([text, times]) =>
    make("li", {}, times > 1 ? make("span", { class: "times" }, `${times} ×`) : null, textBlock(text)));
  return make("details", {}, make("summary", {}, label), make("ol", { class: "verifications" }, ...items));
}

function tierBlock(i, found, answer, columns, chain) {
  const t = found.tier;
  const score = columns.score[t][i];
  const head = make("h4", {}, `${tierName(t, chain)} `, make("span", { class: "model" }, chain[t]), " ",
    verdictOf(columns.right[t][i]));
  if (columns.asked[t][i] === 1) head.append(make("span", { class: "aside" }, "asked for the record only, not paid for"));
  const block = make("div", { class: "tier" }, head, textBlock(answer));
  const facts = [["Score", `${fixed(score, 3)}`], ["Answer", callLine(found.answer)]];
  const confidence = columns.confidence[t][i];
  if (found.verify) {
    facts.push(["Confidence", confidence === null ? `undefined: ${found.outcome.replaceAll("_", " ")}` : number(confidence, 4)]);
    if (found.unparsable) facts.push(["No decision in", plural(found.unparsable, "sample")]);
    facts.push(["Verification", callLine(found.verify)]);
  }
  if (found.to !== undefined) {
    const escalates = found.to > t;
    facts.push(["Decision", `${escalates ? `escalate to ${tierName(found.to, chain)}` : "keep this answer"}${found.reason ? ` (${found.reason})` : ""}`]);
  }
  if (found.dropped) facts.push(["Shortened", `${plural(found.dropped, "demonstration")} left out`]);
  if (found.cut) facts.push(["Shortened", `${plural(found.cut, "context token")} left out`]);
  const metrics = Object.entries(found.metrics);
  if (metrics.length > 1) facts.push(["Metrics", metrics.map(([k, v]) => `${k} ${number(v, 4)}`).join(" · ")]);
  block.append(pairs(facts));
  if (found.samples && found.samples.length) block.append(verifierSamples(found));
  return block;
}

/** The context, folded, and read from the file when it is unfolded. */
function contextBlock(place, stores) {
  const summary = make("summary", {}, "Context");
  const block = make("details", { class: "context" }, summary);
  block.addEventListener("toggle", async () => {
    if (!block.open || block.children.length > 1) return;
    const text = await stores.c.get(place);
    if (block.children.length > 1) return;
    summary.append(make("span", { class: "aside" }, `${whole.format(text.length)} characters`));
    block.append(textBlock(text));
  });
  return block;
}

async function detailOf(i, explorer) {
  const { columns, stores, groups } = explorer;
  const group = groups[columns.group[i]];
  const [question, references, answers, document] = await stores.t.get(i);
  const body = make("div", { class: "detail" });
  const where = [group.task, `question ${columns.doc[i]}`];
  if (columns.repeat[i]) where.push(`repeat ${columns.repeat[i]}`);
  if (document) where.push(`document ${document}`);
  where.push(`run ${group.run}`, columns.cost[i] === null ? "cost unknown" : `cost ${number(columns.cost[i], 4)}`);
  body.append(make("p", { class: "where" }, where.join(" · ")));
  const known = columns.detail[i];
  const place = columns.context[i];
  if (place !== null) body.append(contextBlock(place, stores));
  else if (known !== null) body.append(make("p", { class: "aside" }, "No context: the harness's samples (--log_samples) have none for this question."));
  body.append(make("h4", {}, "Question"), textBlock(question), make("h4", {}, plural(references.length, "reference")),
    make("ul", { class: "references" }, ...references.map((text) => make("li", {}, textBlock(text)))));
  if (known === null) {
    body.append(make("p", { class: "notice" }, "Verifications, calls and context of this question are left out to keep the page small; they are in the run's files."));
    for (const [t, answer] of answers.entries()) {
      if (answer !== null) body.append(make("h4", {}, `${tierName(t, group.tiers)} `, verdictOf(columns.right[t][i])), textBlock(answer));
    }
    return body;
  }
  const tiers = await stores.d.get(known);
  body.append(make("div", { class: "tiers" }, ...tiers.map((found) => tierBlock(i, found, answers[found.tier], columns, group.tiers))));
  return body;
}
