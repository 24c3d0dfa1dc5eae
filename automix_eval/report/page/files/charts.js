// Marks of a chart show their figures when they are hovered over or focused; the row of the table
// that tells the same is marked with them, and the other way round.

function showTip(mark) {
  const tip = byId("tip");
  const [title, ...lines] = mark.dataset.tip.split("\n");
  tip.replaceChildren(make("strong", {}, title), ...lines.map((line) => make("div", {}, line)));
  tip.hidden = false;
  const place = mark.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = tip;
  const left = Math.min(Math.max(8, place.left + place.width / 2 - width / 2), innerWidth - width - 8);
  const above = place.top - height - 10;
  tip.style.left = `${left + scrollX}px`;
  tip.style.top = `${(above > 8 ? above : place.bottom + 10) + scrollY}px`;
}

function together(node, on) {
  const panel = node.closest(".panel");
  if (!node.dataset.row || !panel) return;
  for (const other of panel.querySelectorAll("[data-row]")) {
    if (other.dataset.row === node.dataset.row) other.classList.toggle("lit", on);
  }
}

function startCharts() {
  for (const mark of document.querySelectorAll("[data-tip]")) {
    mark.setAttribute("tabindex", "0");
    mark.querySelector("title")?.remove();
    mark.setAttribute("aria-label", mark.dataset.tip.replaceAll("\n", ", "));
    const on = () => { showTip(mark); together(mark, true); };
    const off = () => { byId("tip").hidden = true; together(mark, false); };
    for (const event of ["pointerenter", "focus"]) mark.addEventListener(event, on);
    for (const event of ["pointerleave", "blur"]) mark.addEventListener(event, off);
  }
  for (const row of document.querySelectorAll("tr[data-row]")) {
    row.addEventListener("pointerenter", () => together(row, true));
    row.addEventListener("pointerleave", () => together(row, false));
  }
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") byId("tip").hidden = true;
  });
}
