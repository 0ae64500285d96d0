// Starts the annotator's or the reviewer's table where a page has room for one: <div data-annotate='{"mode": ...}'>.
import { Labelling } from "./labelling.js";
import { Reviewing } from "./reviewing.js";

function start() {
  const room = document.querySelector("[data-annotate]");
  if (!room || room.dataset.started) return;
  room.dataset.started = "yes";
  const said = JSON.parse(room.dataset.annotate);
  const made = new (said.mode === "review" ? Reviewing : Labelling)(room, said);
  made.begin();
}

new MutationObserver(start).observe(document.documentElement, { childList: true, subtree: true });
start();
