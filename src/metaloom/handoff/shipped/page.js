/* What the pages of all kinds of examples share: the runtime and the graphs, from scripts that lie beside this one, and
   how an answer is shown. */
"use strict";
const about = window.metaloomGraphs;
const element = (tag, text = "", name = "") => Object.assign(document.createElement(tag), { textContent: text, className: name });
const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));

async function unpacked(text) {
  const stream = new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

const sessions = {};
let turn = Promise.resolve(); // a session answers one question at a time
function run(graph, inputs) {
  turn = turn.catch(() => {}).then(async () => {
    const found = await sessions[graph].run(inputs);
    return { probabilities: Array.from(found.probabilities.data), novelty: Array.from(found.novelty.data) };
  });
  return turn;
}

/* The graphs, ready to be asked. */
async function opened() {
  document.getElementById("title").textContent = `${about.task}: ${about.labels.length} classes`;
  const glue = new Blob([bytes(window.metaloomRuntime.mjs)], { type: "text/javascript" });
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(glue) };
  ort.env.wasm.wasmBinary = await unpacked(window.metaloomRuntime.wasm);
  for (const [name, graph] of Object.entries(about.graphs)) {
    sessions[name] = await ort.InferenceSession.create(bytes(graph), { executionProviders: ["wasm"] });
  }
}

function show(place, names, answer) {
  const rows = names.map((name, i) => [name, answer.probabilities[i]]).sort((a, b) => b[1] - a[1]).slice(0, 8);
  place.replaceChildren(...rows.map(([name, p]) => {
    const line = element("div", "", "line"), track = element("span", "", "track"), bar = element("i");
    bar.style.width = `${100 * p}%`;
    track.append(bar);
    line.append(element("span", name), track, element("span", `${(100 * p).toFixed(1)}%`));
    return line;
  }), element("p", `novelty: ${answer.novelty[0].toFixed(1)} (1 is as usual)`));
}

const say = text => { document.getElementById("state").textContent = text; };

/* Start a page; `window.ready` is done when it takes questions. */
function begin(start) {
  window.ready = start();
  window.ready.catch(error => say(`This browser cannot run it: ${error.message}`));
}
