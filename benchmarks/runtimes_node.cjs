// One question to a graph in onnxruntime-node: node runtimes_node.cjs FOLDER GRAPH TYPE SHAPE
const fs = require("fs");
const path = require("path");
const [folder, graph, type, shape] = process.argv.slice(2);
const ort = require(path.join(folder, "node_modules", "onnxruntime-node"));

async function main() {
  const bytes = fs.readFileSync(path.join(folder, "question"));
  const data = type === "uint8" ? new Uint8Array(bytes) : new Float32Array(new Uint8Array(bytes).buffer);
  const session = await ort.InferenceSession.create(graph);
  const answers = await session.run({ [session.inputNames[0]]: new ort.Tensor(type, data, shape.split(",").map(Number)) });
  for (const name of ["probabilities", "novelty"]) {
    fs.writeFileSync(path.join(folder, name), Buffer.from(answers[name].data.buffer));
  }
}

main().catch((error) => {
  console.error(String(error));
  process.exit(1);
});
