// The bank, asked and taught over HTTP. Every function fails with a sentence.

async function request(address, options = {}) {
  let answer;
  try {
    answer = await fetch(address, options);
  } catch {
    throw new Error("The server does not answer. Is memjax demo still running?");
  }
  if (answer.ok) return answer;
  let sentence = `The server answered with ${answer.status}.`;
  try {
    sentence = (await answer.json()).error ?? sentence;
  } catch {
    // It was no JSON; the status must do.
  }
  throw new Error(sentence);
}

async function tell(address, content = {}) {
  const options = { method: "POST", body: JSON.stringify(content) };
  return (await request(address, options)).json();
}

const hexadecimal = (pixels) =>
  Array.from(pixels, (value) => value.toString(16).padStart(2, "0")).join("");

export const overview = async (version) => (await request(`bank?version=${version}`)).json();
export const digest = async () => (await (await request("digest")).json()).digest;
export const runs = async () => (await request("runs")).json();
export const answer = async (pixels) =>
  (await request("answer", { method: "POST", body: pixels })).json();
export const teach = (pixels, name) => tell("teach", { image: hexadecimal(pixels), name });
export const forgetClass = (name) => tell("forget", { name });
export const forgetMemory = (memory) => tell("forget", { memory });
export const undo = () => tell("undo");
export const empty = () => tell("empty");
export const play = (on) => tell("play", { on });
export const save = (name) => tell("save", { name });
export const load = (name) => tell("load", { name });

export async function pictures(serials) {
  const options = { method: "POST", body: JSON.stringify({ serials }) };
  return new Uint8Array(await (await request("pictures", options)).arrayBuffer());
}

export async function example() {
  const found = await request("example");
  const name = JSON.parse(found.headers.get("X-Name"));
  return { pixels: new Uint8Array(await found.arrayBuffer()), name };
}
