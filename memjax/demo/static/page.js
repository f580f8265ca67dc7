import * as bank from "./bank.js";
import { layout, rasterise } from "./ink.js";
import { fromImage } from "./image.js";
import { drawPaper, Pen } from "./paper.js";
import { paint, showAnswer, showCourse, showNothing } from "./show.js";
import { Wall } from "./wall.js";

const at = (id) => document.getElementById(id);
document.body.dataset.asking = "no"; // a test waits for it
const known = { version: 0, names: [], memories: [] };
const pictures = new Map(); // the pixels of each memory, by serial
let pixels = null; // what is asked about
let isAsking = false;
let isAskedAgain = false;

const pen = new Pen(at("paper"), (isDone) => {
  pixels = pen.strokes.length ? rasterise(pen.strokes, layout(known.shape)) : null;
  ask(isDone);
});
const wall = new Wall(at("wall"), pictures, { openMemory, forgetClass });

function say(sentence) {
  at("said").textContent = sentence;
  at("failed").textContent = "";
}

// Do something, and tell what goes wrong with it. The page goes on.
async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    at("failed").textContent = error.message;
  }
}

// Ask about the picture. While one question is on its way, only the latest of the others waits.
async function ask(isDone = true) {
  paint(at("seen"), pixels, known.shape);
  document.body.dataset.asking = pixels ? "yes" : "no";
  if (!pixels) {
    showNothing();
    wall.mark([]);
    return;
  }
  if (isAsking) {
    isAskedAgain = true;
    return;
  }
  isAsking = true;
  await attempt(async () => {
    const asked = pixels;
    const found = await bank.answer(asked);
    await fetchPictures(found.voters.map((voter) => voter.memory));
    if (found.version !== known.version) await refresh();
    if (pixels) {
      showAnswer(found, known, pictures, isDone && !isAskedAgain);
      wall.mark(found.voters.map((voter) => voter.memory));
    }
  });
  isAsking = false;
  if (isAskedAgain) {
    isAskedAgain = false;
    await ask();
  }
  if (!isAsking) document.body.dataset.asking = "no";
}

async function fetchPictures(serials) {
  const missing = [...new Set(serials)].filter((serial) => !pictures.has(serial));
  const size = known.shape.reduce((a, b) => a * b, 1);
  for (let first = 0; first < missing.length; first += 1000) {
    const some = missing.slice(first, first + 1000);
    const bytes = await bank.pictures(some);
    some.forEach((serial, i) => pictures.set(serial, bytes.subarray(i * size, (i + 1) * size)));
  }
}

// Look whether anything has changed, here or in another tab, and show it.
async function refresh() {
  const found = await bank.overview(known.version);
  at("play").textContent = found.plays ? "Stop the stream" : "Play the stream";
  at("play").setAttribute("aria-pressed", String(Boolean(found.plays)));
  known.plays = found.plays;
  if (found.failure) throw new Error(found.failure);
  if (found.version === known.version) return;
  const isFirst = !known.version;
  if (!isFirst && String(found.shape) !== String(known.shape)) location.reload();
  Object.assign(known, found);
  await fetchPictures(known.memories.map(([serial]) => serial));
  const present = new Set(known.memories.map(([serial]) => serial));
  for (const serial of pictures.keys()) if (!present.has(serial)) pictures.delete(serial);
  show(isFirst);
  if (pixels && !isFirst) ask(false);
}

function show(isFirst) {
  const isColour = known.shape[2] !== 1;
  document.body.classList.toggle("is-colour", isColour);
  at("paper").hidden = at("paper-help").hidden = at("clear").hidden = isColour;
  at("draw-title").textContent = isColour ? "Image" : "Draw";
  at("about").textContent = `It has learned ${known.about}.`;
  at("undo").disabled = !known.undo;
  at("undo").textContent = known.undo ? `Undo ${known.undo}` : "Undo";
  at("teach").hidden = at("empty").hidden = !known.teaches;
  at("voters").hidden = at("bank").hidden = !known.teaches;
  at("play").disabled = !known.streams || !known.teaches;
  at("example").hidden = at("stream").hidden = !known.streams;
  at("keep").hidden = !bank.save;
  const number = known.memories.length;
  at("counts").textContent =
    `${number.toLocaleString("en")} ${number === 1 ? "memory" : "memories"}, ` +
    `${known.position.toLocaleString("en")} examples of the stream`;
  const classes = new Set(known.memories.map(([, label]) => label));
  at("names").replaceChildren(
    ...known.names
      .filter((_, label) => classes.has(label))
      .map((name) => Object.assign(document.createElement("option"), { value: name })),
  );
  wall.show(known, isFirst);
  showCourse(known.course);
  if (isFirst) {
    at("paper").setAttribute("aria-disabled", "false");
    document.body.dataset.ready = "true";
    pen.enable();
    paint(at("seen"), null, known.shape);
  }
  if (!known.plays) showDigest();
}

async function showDigest() {
  if (!bank.digest) return;
  await attempt(async () => {
    at("digest").textContent = `Digest of all that is learned: ${await bank.digest()}`;
  });
}

// Take a step of the state, say what came of it, and show the state after it.
async function step(work) {
  await attempt(async () => {
    say("");
    const { said } = await work();
    await refresh();
    say(said);
  });
}

async function forgetClass(name) {
  await step(() => bank.forgetClass(name));
}

function openMemory(serial) {
  const memory = known.memories.find(([other]) => other === serial);
  if (!memory) return;
  const [, label, count] = memory;
  paint(at("memory-picture"), pictures.get(serial), known.shape);
  const votes = label < 0 ? "It has no vote." : `It votes for “${known.names[label]}”.`;
  at("memory-help").textContent =
    `${votes} It has learned ${count} ${count === 1 ? "example" : "examples"}.`;
  at("memory-forget").onclick = () => {
    at("memory").close();
    step(() => bank.forgetMemory(serial));
  };
  at("memory-forget").hidden = !known.edits;
  at("memory").showModal();
}

at("clear").onclick = () => {
  pen.clear();
  pixels = null;
  ask();
};
at("undo").onclick = () => step(bank.undo);
at("empty").onclick = () => step(bank.empty);
at("play").onclick = () => step(() => bank.play(!known.plays));
at("teach").onsubmit = (event) => {
  event.preventDefault();
  if (!pixels) {
    at("failed").textContent = "Draw something first, and then say what it is.";
    return;
  }
  if (!at("name").value.trim()) {
    at("failed").textContent = "A class needs a name.";
    return;
  }
  step(() => bank.teach(pixels, at("name").value));
};

at("example").onclick = () =>
  attempt(async () => {
    const found = await bank.example();
    pen.clear();
    pixels = found.pixels;
    say(`An image of “${found.name}” that was not learned yet.`);
    await ask();
  });

// Images from a file, from the clipboard, dropped, and from the camera.
async function take(source) {
  await attempt(async () => {
    pixels = await fromImage(source, known.shape, pictures);
    pen.clear();
    say("");
    await ask();
  });
}

function firstFile(transfer) {
  return [...(transfer?.files ?? [])].find((file) => file.type.startsWith("image/"));
}

at("file").onchange = () => {
  const [file] = at("file").files;
  at("file").value = "";
  if (file) take(file);
};
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  const file = firstFile(event.dataTransfer);
  if (file && known.version) take(file);
  else at("failed").textContent = "Only an image can be dropped here.";
});
document.addEventListener("paste", (event) => {
  const file = firstFile(event.clipboardData);
  if (file && known.version) take(file);
});

if (navigator.mediaDevices?.getUserMedia) at("camera").hidden = false;
at("camera").onclick = () =>
  attempt(async () => {
    const stream = await navigator.mediaDevices.getUserMedia({ video: true }).catch(() => {
      throw new Error("The browser gives no camera to this page.");
    });
    at("video").srcObject = stream;
    at("shooting").onclose = () => stream.getTracks().forEach((track) => track.stop());
    at("shooting").showModal();
    await at("video").play();
  });
at("shoot").onclick = async () => {
  await take(at("video"));
  at("shooting").close();
};
for (const name of ["memory", "keeping", "shooting"]) {
  at(`${name}-close`).onclick = () => at(name).close();
}

at("keep").onclick = () =>
  attempt(async () => {
    const { folder, names } = await bank.runs();
    at("folder").textContent = folder;
    at("load-name").replaceChildren(
      ...names.map((name) => Object.assign(document.createElement("option"), { value: name, textContent: name })),
    );
    at("load").hidden = !names.length;
    at("keeping").showModal();
  });
for (const [id, work] of [["save", bank.save], ["load", bank.load]]) {
  at(id).onsubmit = (event) => {
    event.preventDefault();
    at("keeping").close();
    step(() => work(at(`${id}-name`).value));
  };
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawPaper(pen));

async function watch() {
  if (!document.hidden || !known.version) {
    try {
      await refresh();
      if (known.isLost) at("failed").textContent = "";
      known.isLost = false;
    } catch (error) {
      known.isLost = true;
      at("failed").textContent = error.message;
    }
  }
  setTimeout(watch, known.plays || !known.version ? 250 : 1000);
}
watch();
