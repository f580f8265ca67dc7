// What is shown of an answer and of the course of learning.

const at = (id) => document.getElementById(id);
// The share of the learned examples that were nearer to a memory.
const UNUSUAL = 0.9;
const NEVER_SEEN = 0.97;

export const hue = (label) => String(Math.round((label * 137.5 + 210) % 360));

export function make(tag, className, text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.textContent = text;
  return element;
}

export function paint(canvas, pixels, [height, width, channels]) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  if (!pixels) return;
  const image = context.createImageData(width, height);
  for (let i = 0; i < height * width; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = pixels[channels * i + (c % channels)];
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

function bar(label, share) {
  const whole = make("div", "bar");
  const part = whole.appendChild(make("span"));
  part.style.setProperty("--hue", hue(label));
  part.style.width = `${100 * share}%`;
  return whole;
}

const percent = (share) => `${Math.round(100 * share)} %`;
const nameOf = (label, names) => (label < 0 ? "no vote" : names[label]);

export function showNothing() {
  at("label").textContent = "–";
  at("novelty").textContent = at("novelty-help").textContent = at("spoken").textContent = "";
  at("evidence").replaceChildren();
  at("voter-list").replaceChildren();
  at("voters-help").hidden = false;
}

export function showAnswer({ label, evidence, novelty, voters }, { names, shape }, pictures, isSpoken) {
  const said = label < 0 ? "no answer" : names[label];
  const kind = novelty < UNUSUAL ? "familiar" : novelty < NEVER_SEEN ? "unusual" : "new";
  const word = { familiar: "familiar", unusual: "unusual", new: "never seen" }[kind];
  at("label").textContent = said;
  at("novelty").dataset.kind = kind;
  at("novelty").textContent = word;
  const share = Math.floor(1000 * novelty) / 10;
  at("novelty-help").textContent = `${share} % of what was learned was nearer to a memory than this.`;
  at("evidence").replaceChildren(
    ...evidence.map(([one, part]) => {
      const row = make("li");
      row.append(make("span", "name", names[one]), bar(one, part), make("span", "share", percent(part)));
      return row;
    }),
  );
  at("voter-list").replaceChildren(
    ...voters.map((voter) => {
      const row = make("li");
      const canvas = make("canvas");
      paint(canvas, pictures.get(voter.memory), shape);
      canvas.setAttribute("aria-hidden", "true");
      row.title = `It has learned ${voter.count} ${voter.count === 1 ? "example" : "examples"}.`;
      row.append(
        canvas,
        make("span", "name", nameOf(voter.label, names)),
        bar(voter.label, voter.weight),
        make("span", "share", percent(voter.weight)),
      );
      return row;
    }),
  );
  at("voters-help").hidden = voters.length > 0;
  if (isSpoken) at("spoken").textContent = `${said}, ${word}`;
}

export function showCourse({ stretch, shares, whole }) {
  const width = at("course").clientWidth || 600;
  at("course").setAttribute("viewBox", `0 0 ${width} 130`);
  const [left, right, top, bottom] = [44, width - 8, 10, 106];
  const y = (share) => bottom - (bottom - top) * share;
  const step = (right - left) / Math.max(shares.length - 1, 1);
  const points = shares.map((share, i) => `${(left + i * step).toFixed(1)},${y(share).toFixed(1)}`);
  if (points.length === 1) points.push(`${right},${y(shares[0]).toFixed(1)}`);
  at("line").setAttribute("points", points.join(" "));
  const marks = [0, 0.5, 1].flatMap((share) => {
    const line = svg("line", { x1: left, x2: right, y1: y(share), y2: y(share) });
    const text = svg("text", { x: left - 6, y: y(share) + 4, "text-anchor": "end" });
    text.textContent = percent(share);
    return [line, text];
  });
  const end = svg("text", { x: right, y: bottom + 18, "text-anchor": "end" });
  end.textContent = stretch ? `stretches of ${stretch} examples` : "nothing was played yet";
  at("grid").replaceChildren(...marks, end);
  at("course").setAttribute(
    "aria-label",
    whole === null
      ? "Accuracy over the stream: nothing was learned from it yet"
      : `Accuracy over the stream: ${percent(whole)} in all, ${percent(shares.at(-1))} at the end`,
  );
}

function svg(tag, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}
