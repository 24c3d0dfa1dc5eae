// One task is looked at at a time: the verdicts at the top choose which.

function showPanel(name, focus) {
  for (const panel of document.querySelectorAll(".panel")) {
    panel.classList.toggle("away", panel.dataset.panel !== name);
  }
  for (const tab of document.querySelectorAll("[data-opens]")) {
    const chosen = tab.dataset.opens === name;
    tab.setAttribute("aria-pressed", String(chosen));
    tab.closest(".verdict").classList.toggle("chosen", chosen);
  }
  if (focus) document.querySelector(`.panel[data-panel="${name}"]`).scrollIntoView({ block: "start" });
}

function startPanels() {
  const tabs = [...document.querySelectorAll("[data-opens]")];
  if (tabs.length < 2) return;
  for (const [i, tab] of tabs.entries()) {
    tab.hidden = false;
    tab.addEventListener("click", () => showPanel(tab.dataset.opens, true));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const next = tabs[(i + step + tabs.length) % tabs.length];
      next.focus();
      showPanel(next.dataset.opens, false);
    });
  }
  showPanel(tabs[0].dataset.opens, false);
}

/** On paper nothing can be unfolded: all of it stands there. */
function startPrinting() {
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll(".panel details:not([open])")];
    for (const part of folded) part.open = true;
  });
  addEventListener("afterprint", () => {
    for (const part of folded) part.open = false;
  });
}
