// Elements made of values: text is text, whatever somebody wrote.
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "value") made.value = value;
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children.flat().filter((one) => one !== null && one !== undefined && one !== false));
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null && value !== undefined && value !== false) made.setAttribute(name, String(value));
  made.append(...children.flat());
  return made;
}

// Puts new children in place, and the focus back to the element of the same id.
export function fill(room, ...children) {
  const id = room.contains(document.activeElement) ? document.activeElement.id : "";
  room.replaceChildren(...children.flat().filter(Boolean));
  if (id) document.getElementById(id)?.focus();
}

export const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
// What the service keeps: 1/256 pixel.
export const snap = (value) => Math.round(value * 256) / 256;

// A question in a dialog of its own: { title, body: elements, yes: words, danger }; resolves to the form's values, or null.
export function ask({ title, body, yes = "", danger = false }) {
  return new Promise((answer) => {
    const form = el("form", { method: "dialog" }, el("h2", { id: "dialog-title" }, title), ...body,
      el("div", { class: "actions" },
        el("button", { type: "button", class: "button", onclick: () => end(null) }, yes ? "Cancel" : "Close"),
        yes ? el("button", { type: "submit", class: `button ${danger ? "danger" : "primary"}` }, yes) : null));
    const dialog = el("dialog", { "aria-labelledby": "dialog-title", class: "annotate-dialog" }, form);
    const end = (value) => { dialog.close(); dialog.remove(); answer(value); };
    form.addEventListener("submit", (e) => { e.preventDefault(); end(Object.fromEntries(new FormData(form))); });
    dialog.addEventListener("cancel", (e) => { e.preventDefault(); end(null); });
    document.body.append(dialog);
    dialog.showModal();
    dialog.querySelector("input, textarea, button[type=submit], button")?.focus();
  });
}
