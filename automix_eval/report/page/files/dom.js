// Elements are built from text nodes only: nothing in this page ever parses a text as markup.

const SVG = "http://www.w3.org/2000/svg";
const byId = (id) => document.getElementById(id);

/** An element; `options` are attributes, `on` its listeners, children texts or nodes. */
function make(tag, options = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (name === "on") {
      for (const [event, handler] of Object.entries(value)) node.addEventListener(event, handler);
    } else if (value !== null && value !== undefined && value !== false) {
      node.setAttribute(name, value === true ? "" : value);
    }
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const whole = new Intl.NumberFormat("en-US");

/** A number with at most so many significant digits; what is unknown is a dash. */
function number(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  return new Intl.NumberFormat("en-US", { maximumSignificantDigits: digits }).format(value);
}

const fixed = (value, digits) => (value === null || value === undefined ? "–" : value.toFixed(digits));

function plural(count, noun) {
  return `${whole.format(count)} ${noun}${count === 1 ? "" : "s"}`;
}
