/* What the pages of all kinds of examples share: the runtime and the graphs, from scripts that lie beside this one, how
   classes are taught, and how an answer is shown. */
"use strict";
const about = window.metaloomGraphs;
const element = (tag, text = "", name = "") => Object.assign(document.createElement(tag), { textContent: text, className: name });
const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
const $ = place => document.querySelector(place);
const say = text => { $("#state").textContent = text; };
const several = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;
const failed = error => say(error.message);

async function unpacked(text) {
  const stream = new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

const sessions = {};
let turn = Promise.resolve(); // a session answers one question at a time
function run(graph, inputs) {
  turn = turn.catch(() => {}).then(() => sessions[graph].run(inputs));
  return turn;
}
const answer = async (graph, inputs) => {
  const found = await run(graph, inputs);
  return { probabilities: Array.from(found.probabilities.data), novelty: Array.from(found.novelty.data) };
};

const head = {}; // what learn.onnx would give of the bundle's own classes
/* The graphs, ready to be asked. */
async function opened() {
  $("#title").replaceChildren(named(about.task), `: ${about.labels.length} classes`);
  const glue = new Blob([bytes(window.metaloomRuntime.mjs)], { type: "text/javascript" });
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(glue) };
  ort.env.wasm.wasmBinary = await unpacked(window.metaloomRuntime.wasm);
  for (const [name, graph] of Object.entries(about.graphs)) {
    sessions[name] = await ort.InferenceSession.create(bytes(graph), { executionProviders: ["wasm"] });
  }
  for (const [name, { dims, data }] of Object.entries(about.head)) {
    head[name] = new ort.Tensor("float32", new Float32Array(bytes(data).buffer), dims);
  }
}

const asked = examples => "classify.onnx" in sessions ? answer("classify.onnx", { examples, ...head }) : answer("model.onnx", { examples });

/* Learns labelled examples; gives a function that answers questions. */
async function learned(support_x, ways) {
  const support = { support_x, support_y: new ort.Tensor("int64", BigInt64Array.from(ways, BigInt), [ways.length]) };
  if ("adapt.onnx" in sessions) return query_x => answer("adapt.onnx", { ...support, query_x });
  const own = await run("learn.onnx", support);
  return examples => answer("classify.onnx", { examples, ...own });
}

/* Classes that are taught here, `taken()`: name and examples of each. With them come the bundle's own, where these are
   kept; `support` makes a batch of examples. What they have taught is kept until `changed` is called. */
function teaching({ taken, own, support }) {
  const keep = $("#keep input");
  let lesson = null;
  const changed = () => { lesson = null; };
  async function learn() {
    const classes = new Map(); // examples by name: one that is the name of another class adds to it
    for (const { name, shots } of [...(keep.checked ? own() : []), ...taken()]) {
      if (shots.length) classes.set(name, [...(classes.get(name) ?? []), ...shots]);
    }
    const names = [...classes.keys()], shots = [...classes.values()];
    if (names.length < 2) throw new Error("It needs examples of two classes first.");
    if (names.length > about.max_ways) throw new Error(`${about.max_ways} classes are the most that it can learn: take some away.`);
    return { names, ask: await learned(support(shots.flat()), shots.flatMap((each, way) => each.map(() => way))) };
  }
  $("#keep").append(` Beside its own ${about.labels.length} classes`);
  keep.checked = about.labels.length < about.max_ways && about.examples.length > 0;
  keep.disabled = !keep.checked;
  keep.onchange = changed;
  $("#teaching").hidden = !("adapt.onnx" in sessions || "learn.onnx" in sessions);
  return {
    changed,
    ask: async query => {
      const { names, ask } = await (lesson ??= learn().catch(error => { changed(); throw error; }));
      return { names, answer: await ask(query) };
    },
  };
}

/* A file that the browser saves, and one that it reads. */
function files({ save, load }) {
  $("#save").onclick = async () => {
    try {
      const { name, blob } = await save(), link = element("a");
      [link.href, link.download] = [URL.createObjectURL(blob), name];
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60000);
      say(`Saved as ${name}.`);
    } catch (error) { failed(error); }
  };
  $("#load input").onchange = async event => {
    const [file] = event.target.files;
    try { if (file) say(await load(file)); } catch (error) { say(`${file.name} cannot be loaded: ${error.message}`); }
    event.target.value = "";
  };
}
const savedAs = end => `${about.task.replace(/[^\p{L}\p{N}_-]+/gu, "-")}-taught.${end}`;

/* An example of each class, which `view` shows; a click asks about it. */
function samples(view, ask) {
  $("#samples").hidden = !about.examples.length;
  $(".examples").replaceChildren(...about.examples.map(([first], way) => {
    const item = element("li"), button = element("button"), name = element("small");
    name.append(named(about.labels[way]));
    button.type = "button";
    button.append(name, view(first));
    button.onclick = () => ask(first);
    item.append(button);
    return item;
  }));
}

/* A name that may go on in a new line after its own marks, so that no word is cut. */
function named(text) {
  const parts = document.createElement("span");
  for (const part of text.split(/(?<=[_\-/.:])/)) parts.append(part, element("wbr"));
  return parts;
}

function show(place, names, { probabilities, novelty }) {
  const rows = names.map((name, i) => [name, probabilities[i]]).sort((a, b) => b[1] - a[1]).slice(0, 8);
  place.replaceChildren(...rows.map(([name, p]) => {
    const line = element("div", "", "line"), track = element("span", "", "track"), bar = element("i");
    bar.style.width = `${100 * p}%`;
    track.append(bar);
    line.append(named(name), track, element("span", `${(100 * p).toFixed(1)}%`));
    return line;
  }), element("p", `novelty: ${novelty[0].toFixed(1)} (1 is as usual)`));
}

/* Start a page; `window.ready` is done when it takes questions. */
function begin(start) {
  window.ready = start();
  window.ready.catch(error => say(`This browser cannot run it: ${error.message}`));
}
