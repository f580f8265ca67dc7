// The bank of memories in the page itself, for where there is no server. It has the functions of
// bank.js. The rule is that of memjax/memory/_rule.py and _recall.py, for a bank that is never full.

const FIRST = read(window.BANK);
const { params } = window.BANK;
let serials = FIRST.memories.length;
let now = FIRST;
let version = 1;
const past = [];

// Return what was learned, from the numbers that docs/hooks/draw.py wrote.
function read({ names, shape, base64, numSeen }) {
  const bytes = (name) => Uint8Array.from(atob(base64[name]), (letter) => letter.charCodeAt(0));
  const floats = new Float32Array(bytes("prototypes").buffer);
  const counts = new Int32Array(bytes("counts").buffer);
  const averaged = new Int32Array(bytes("averaged").buffer);
  const votes = new Int32Array(bytes("votes").buffer);
  const pictures = bytes("pictures");
  const size = counts.length;
  const part = (all, i) => all.slice((i * all.length) / size, ((i + 1) * all.length) / size);
  const memories = Array.from(counts, (count, i) => ({
    serial: i,
    prototype: part(floats, i),
    count,
    averaged: averaged[i],
    votes: Array.from(part(votes, i)),
    pixels: part(pictures, i),
  }));
  const distanceCounts = new Int32Array(bytes("distanceCounts").buffer);
  return { names, shape, memories, distanceCounts, numSeen };
}

// The encoder: pixels, scaled to length 1.
function encode(pixels) {
  const x = Float32Array.from(pixels, (value) => value / 255);
  const length = Math.sqrt(x.reduce((sum, value) => sum + value * value, 0));
  return x.map((value) => value / (length || 1));
}

// The mean of many counts as farther than a single example.
const distance = (x, { prototype, averaged }) => {
  const squares = prototype.reduce((sum, value, i) => sum + (x[i] - value) ** 2, 0);
  return Math.fround((squares * 5 * averaged) / (4 * averaged + 1));
};

// Return the memories by distance, the nearest first; ties: the one that was stored first.
function nearest(x, memories) {
  const found = memories.map((memory, index) => ({ memory, index, distance: distance(x, memory) }));
  return found.sort((a, b) => a.distance - b.distance || a.index - b.index);
}

function favourite(votes) {
  const most = Math.max(...votes);
  return most > 0 ? votes.indexOf(most) : -1;
}

const total = (memory) => memory.votes.reduce((a, b) => a + b, 0);

function voteWeights(found, size) {
  const k = params.numNeighbours;
  const number = Math.min(Math.max(Math.floor(size / 2), 1), k);
  const edge = Math.max(...found.slice(0, number + 1).map((one) => one.distance), 0) || 1;
  const voting = found.slice(0, k);
  const hasVote = voting.map(({ memory }) => total(memory) > 0);
  const isNear = hasVote.map((has, i) => has && i < number);
  let weights = voting.map((one, i) => {
    const votes = total(one.memory);
    return isNear[i] ? (Math.max(1 - one.distance / edge, 0) * votes) / (votes + 2) : 0;
  });
  const alike = (isNear.some(Boolean) ? isNear : hasVote).map(Number);
  if (!weights.some((weight) => weight > 0)) weights = alike;
  const isSame = voting.map((one, i) => hasVote[i] && one.distance === 0 && total(one.memory) >= k);
  return isSame.some(Boolean) ? isSame.map(Number) : weights;
}

// The bins of distances: four for each power of two, by the bits of a float32.
function bin(value) {
  const bits = new Int32Array(new Float32Array([Math.max(value, 0)]).buffer)[0];
  return [bits >> 21, (bits & ((1 << 21) - 1)) / (1 << 21)];
}

function shareNearer(counts, value) {
  const whole = counts.reduce((a, b) => a + b, 0);
  if (!whole || value === undefined) return 1;
  const [place, fraction] = bin(value);
  const below = counts.slice(0, place).reduce((a, b) => a + b, 0);
  return (below + fraction * counts[place]) / whole;
}

export async function answer(pixels) {
  const { memories, names, distanceCounts } = now;
  const found = nearest(encode(pixels), memories);
  const weights = voteWeights(found, memories.length);
  const whole = weights.reduce((a, b) => a + b, 0) || 1;
  const shares = names.map(() => 0);
  weights.forEach((weight, i) => {
    const votes = total(found[i].memory) || 1;
    found[i].memory.votes.forEach((number, label) => {
      shares[label] += (weight * number) / votes / whole;
    });
  });
  const order = shares.map((_, label) => label).sort((a, b) => shares[b] - shares[a] || a - b);
  return {
    version,
    label: shares[order[0]] > 0 ? order[0] : -1,
    evidence: order.slice(0, 5).filter((label) => shares[label] > 0).map((label) => [label, shares[label]]),
    novelty: shareNearer(distanceCounts, found[0]?.distance),
    voters: weights
      .map((weight, i) => ({
        memory: found[i].memory.serial,
        label: favourite(found[i].memory.votes),
        count: found[i].memory.count,
        weight: weight / whole,
      }))
      .filter((voter) => voter.weight > 0)
      .sort((a, b) => b.weight - a.weight),
  };
}

export async function teach(pixels, given) {
  const name = given.trim().split(/\s+/).join(" ");
  const known = now.names.find((other) => other.toLowerCase() === name.toLowerCase());
  const names = known ? now.names : [...now.names, name];
  const label = names.indexOf(known ?? name);
  const memories = now.memories.map((memory) => ({
    ...memory,
    votes: names.map((_, i) => memory.votes[i] ?? 0),
  }));
  const x = encode(pixels);
  const [winner] = nearest(x, memories);
  const distanceCounts = now.distanceCounts.slice();
  if (winner) distanceCounts[bin(winner.distance)[0]] += 1;
  let said;
  if (isStored(winner, label, memories)) {
    const votes = names.map((_, i) => Number(i === label));
    memories.push({ serial: serials++, prototype: x, count: 1, averaged: 1, votes, pixels });
    said = "1 stored, 0 others changed.";
  } else {
    const memory = memories[winner.index];
    const before = favourite(memory.votes);
    const rate = Math.fround(Math.max(1 / (memory.count + 1), params.plasticityFloor));
    memory.prototype = memory.prototype.map((value, i) => value + rate * (x[i] - value));
    memory.count += 1;
    memory.averaged += Number(winner.distance > 0);
    memory.votes[label] += 1;
    said = "0 stored, 1 memory changed. ";
    said +=
      before === label || before < 0
        ? "It was near enough, and moved towards the drawing."
        : `It votes for “${names[before]}”, and has counted the mistake.`;
  }
  goTo({ ...now, names, memories, distanceCounts, numSeen: now.numSeen + 1 }, `teaching “${names[label]}”`);
  return { said: `“${names[label]}”: ${said}` };
}

function isStored(winner, label, memories) {
  if (!winner || winner.distance > params.noveltyThreshold) return true;
  const { votes } = winner.memory;
  const isMistaken = votes[label] < Math.max(...votes) && label !== favourite(votes);
  if (!isMistaken || winner.distance <= 0) return false;
  const voters = memories.filter((one) => one.votes[label] > 0 && one.votes[label] === Math.max(...one.votes));
  return votes[label] > 0 || voters.length < Math.ceil(memories.length / (2 * params.numClasses));
}

export async function forgetClass(name) {
  const label = now.names.indexOf(name);
  const stays = now.memories.filter((memory) => favourite(memory.votes) !== label);
  const traces = stays.filter((memory) => memory.votes[label] > 0).length;
  const memories = stays.map((memory) => ({
    ...memory,
    votes: memory.votes.map((number, i) => (i === label ? 0 : number)),
  }));
  const removed = now.memories.length - memories.length;
  goTo({ ...now, memories }, `forgetting “${name}”`);
  return {
    said: `“${name}” is forgotten: ${removed} removed, and ${traces} of other classes keep a trace.`,
  };
}

export async function forgetMemory(serial) {
  goTo({ ...now, memories: now.memories.filter((memory) => memory.serial !== serial) }, "forgetting a memory");
  return { said: "1 memory removed. All others are as before." };
}

function goTo(state, title) {
  past.push({ title, state: now });
  now = state;
  version += 1;
}

export async function undo() {
  const { title, state } = past.pop();
  now = state;
  version += 1;
  return { said: `Undone: ${title}.` };
}

export async function empty() {
  const distanceCounts = now.distanceCounts.map(() => 0);
  goTo({ ...now, memories: [], distanceCounts, numSeen: 0 }, "emptying the bank");
  return { said: "The bank is empty. Draw and teach." };
}

export async function overview(seen) {
  if (seen === version) return { version };
  return {
    version,
    shape: now.shape,
    about: window.BANK.about,
    teaches: true,
    edits: true,
    streams: false,
    position: now.numSeen,
    course: window.BANK.course,
    undo: past.at(-1)?.title ?? null,
    names: now.names,
    memories: now.memories.map(({ serial, votes, count }) => [serial, favourite(votes), count]),
  };
}

export async function pictures(wanted) {
  const size = now.shape.reduce((a, b) => a * b, 1);
  const bytes = new Uint8Array(wanted.length * size);
  const found = new Map(now.memories.map(({ serial, pixels }) => [serial, pixels]));
  wanted.forEach((serial, i) => bytes.set(found.get(serial) ?? [], i * size));
  return bytes;
}

// Nothing is saved here, and the stream is not at hand.
export const digest = null;
export const runs = null;
export const save = null;
export const load = null;
export const play = null;
export const example = null;
