// The paper and the pen: strokes by mouse, pen and finger, and by the keyboard.

export class Pen {
  // ``changed(isDone)`` is called when the strokes have changed; isDone at the end of a stroke.
  constructor(paper, changed) {
    Object.assign(this, { paper, changed, strokes: [], place: null, isDown: false });
  }

  enable() {
    const { paper } = this;
    paper.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      event.preventDefault();
      paper.focus({ preventScroll: true });
      paper.setPointerCapture(event.pointerId);
      this.pointer = event.pointerId;
      this.place = null;
      this.isDown = false;
      this.strokes.push([]);
      this.add(event);
    });
    paper.addEventListener("pointermove", (event) => {
      if (event.pointerId === this.pointer) this.add(event);
    });
    for (const name of ["pointerup", "pointercancel"]) {
      paper.addEventListener(name, (event) => {
        if (event.pointerId !== this.pointer) return;
        this.pointer = undefined;
        this.changed(true);
      });
    }
    paper.addEventListener("keydown", (event) => this.press(event));
    paper.addEventListener("blur", () => {
      this.place = null;
      this.isDown = false;
      drawPaper(this);
    });
    drawPaper(this);
  }

  clear() {
    this.strokes = [];
    this.isDown = false;
    drawPaper(this);
  }

  add(event) {
    const { left, top, width, height } = this.paper.getBoundingClientRect();
    const all = event.getCoalescedEvents?.() ?? [];
    for (const one of all.length ? all : [event]) {
      this.strokes.at(-1).push([(one.clientX - left) / width, (one.clientY - top) / height]);
    }
    drawPaper(this);
    this.changed(false);
  }

  press(event) {
    const by = event.shiftKey ? 0.01 : 0.05;
    const way = { ArrowLeft: [-by, 0], ArrowRight: [by, 0], ArrowUp: [0, -by], ArrowDown: [0, by] };
    const move = way[event.key];
    if (!move && ![" ", "Escape"].includes(event.key)) return;
    event.preventDefault();
    this.place ??= [0.5, 0.5];
    if (event.key === "Escape") {
      this.clear();
      this.changed(true);
    } else if (event.key === " ") {
      this.isDown = !this.isDown;
      if (this.isDown) this.strokes.push([[...this.place]]);
      this.changed(!this.isDown);
    } else {
      this.place = this.place.map((value, i) => Math.min(Math.max(value + move[i], 0.02), 0.98));
      if (this.isDown) {
        this.strokes.at(-1).push([...this.place]);
        this.changed(false);
      }
    }
    drawPaper(this);
  }
}

export function drawPaper({ paper, strokes, place, isDown }) {
  const context = paper.getContext("2d");
  const side = paper.width;
  context.clearRect(0, 0, side, side);
  const style = getComputedStyle(document.documentElement);
  context.strokeStyle = style.getPropertyValue("--ink");
  context.lineWidth = side * 0.055;
  context.lineCap = context.lineJoin = "round";
  for (const stroke of strokes) {
    context.beginPath();
    stroke.forEach(([x, y]) => context.lineTo(x * side, y * side));
    if (stroke.length === 1) context.lineTo(stroke[0][0] * side + 0.1, stroke[0][1] * side);
    context.stroke();
  }
  if (!place) return;
  context.strokeStyle = style.getPropertyValue("--accent");
  context.lineWidth = 3;
  context.beginPath();
  context.arc(place[0] * side, place[1] * side, isDown ? 10 : 18, 0, 2 * Math.PI);
  context.stroke();
}
