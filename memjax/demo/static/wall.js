// All memories as images, by class. A click on one opens it; so do Enter and Space.

import { hue, make, paint } from "./show.js";

const FEW = 60; // memories of a class that are shown at first

export class Wall {
  constructor(place, pictures, { openMemory, forgetClass }) {
    Object.assign(this, { place, pictures, openMemory, forgetClass });
    this.classes = new Map(); // what is shown of each label
    this.tiles = new Map(); // the button of each memory
    this.open = new Set(); // labels of which all memories are shown
  }

  show(known, isFirst = false) {
    this.known = known;
    const byLabel = new Map();
    for (const memory of known.memories) {
      if (!byLabel.has(memory[1])) byLabel.set(memory[1], []);
      byLabel.get(memory[1]).push(memory);
    }
    const tiles = new Map();
    const labels = [...byLabel.keys()].sort((a, b) => a - b);
    const shown = labels.map((label) => this.showClass(label, byLabel.get(label), tiles, isFirst));
    // What is moved in the page loses the focus, and is animated anew.
    const { children } = this.place;
    if (children.length !== shown.length || shown.some((whole, i) => children[i] !== whole)) {
      this.place.replaceChildren(...shown);
    }
    if (!labels.length) this.place.append(make("p", "hint", "The bank is empty."));
    this.tiles = tiles;
  }

  showClass(label, memories, tiles, isFirst) {
    const name = label < 0 ? "no vote" : this.known.names[label];
    const shown = this.open.has(label) ? memories : memories.slice(-FEW);
    let place = this.classes.get(label);
    if (!place) {
      place = this.makeClass(label);
      this.classes.set(label, place);
    }
    place.title.textContent = name;
    place.number.textContent =
      `${memories.length.toLocaleString("en")} ${memories.length === 1 ? "memory" : "memories"}`;
    place.forget.hidden = label < 0 || !this.known.teaches;
    place.forget.setAttribute("aria-label", `Forget the class ${name}`);
    place.forget.onclick = () => this.forgetClass(name);
    place.more.hidden = memories.length <= FEW;
    place.more.textContent = this.open.has(label) ? "Show fewer" : "Show all";
    place.more.setAttribute("aria-expanded", String(this.open.has(label)));
    const buttons = shown.map((memory) => this.tile(memory, name, isFirst)).reverse();
    buttons.forEach((button) => tiles.set(Number(button.dataset.serial), button));
    // What stays is not moved, so that it keeps the focus.
    const wanted = new Set(buttons);
    [...place.tiles.children].forEach((old) => wanted.has(old) || old.remove());
    buttons.forEach((button, i) => {
      if (place.tiles.children[i] !== button) place.tiles.insertBefore(button, place.tiles.children[i] ?? null);
    });
    if (!place.tiles.querySelector('[tabindex="0"]') && buttons.length) buttons[0].tabIndex = 0;
    place.tiles.setAttribute("aria-label", `Memories of ${name}`);
    return place.whole;
  }

  makeClass(label) {
    const whole = make("div", "class");
    whole.style.setProperty("--hue", hue(label));
    const head = whole.appendChild(make("div", "head"));
    const title = head.appendChild(make("h3"));
    const number = head.appendChild(make("span", "hint"));
    const forget = head.appendChild(make("button", "danger", "Forget"));
    const more = head.appendChild(make("button"));
    forget.type = more.type = "button";
    more.onclick = () => {
      if (!this.open.delete(label)) this.open.add(label);
      this.show(this.known, true);
    };
    const tiles = whole.appendChild(make("div", "tiles"));
    tiles.setAttribute("role", "group");
    tiles.addEventListener("keydown", (event) => this.walk(event, tiles));
    return { whole, title, number, forget, more, tiles };
  }

  tile([serial, , count], name, isFirst) {
    let button = this.tiles.get(serial);
    if (!button) {
      button = make("button", isFirst ? "" : "fresh");
      button.type = "button";
      button.tabIndex = -1;
      button.dataset.serial = serial;
      button.onclick = () => this.openMemory(serial);
      button.onanimationend = () => button.classList.remove("fresh");
      paint(button.appendChild(make("canvas")), this.pictures.get(serial), this.known.shape);
    }
    const examples = `${count} ${count === 1 ? "example" : "examples"}`;
    button.title = `${name}, ${examples}`;
    button.setAttribute("aria-label", `Memory of ${name}, ${examples}`);
    return button;
  }

  // One memory of each class is reached by Tab, the others by the arrows.
  walk(event, tiles) {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    const all = [...tiles.children];
    const now = all.indexOf(document.activeElement);
    if (!step || now < 0) return;
    event.preventDefault();
    const next = all[Math.min(Math.max(now + step, 0), all.length - 1)];
    all[now].tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }

  // Outline the memories that vote.
  mark(serials) {
    for (const button of this.tiles.values()) button.classList.remove("votes");
    for (const serial of serials) this.tiles.get(serial)?.classList.add("votes");
  }
}
