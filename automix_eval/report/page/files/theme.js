// The page follows the system's light or dark; the button overrides it for this visit.

function startTheme() {
  const order = ["auto", "light", "dark"];
  const button = byId("theme");
  let current = 0;
  button.hidden = false;
  button.addEventListener("click", () => {
    current = (current + 1) % order.length;
    document.documentElement.dataset.theme = order[current];
    button.querySelector("span").textContent = order[current];
  });
}
