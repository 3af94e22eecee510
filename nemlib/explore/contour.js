/*
Closed contour lines of a function on a square by marching squares, linear between grid points.
The function should fall below every level at the square's edge. Returns loops of points [x, y].
*/
nx.contour = function (f, level, limit, cells) {
  const size = cells + 1;
  const at = (i) => -limit + (2 * limit * i) / cells;
  const values = new Float64Array(size * size);
  for (let j = 0; j < size; j += 1)
    for (let i = 0; i < size; i += 1) values[j * size + i] = f(at(i), at(j)) - level;

  // An edge is named by its lower grid point and its direction; each crossing edge joins two segments.
  const points = new Map();
  const next = new Map();
  function crossing(i, j, across) {
    const name = 2 * (j * size + i) + (across ? 0 : 1);
    if (!points.has(name)) {
      const first = values[j * size + i];
      const second = across ? values[j * size + i + 1] : values[(j + 1) * size + i];
      const part = first / (first - second);
      points.set(name, across ? [at(i + part), at(j)] : [at(i), at(j + part)]);
    }
    return name;
  }

  // Segments keep the high side on their right, so that the end of one is the start of the next.
  const cases = [
    "",
    "wb",
    "be",
    "we",
    "et",
    "wb et",
    "bt",
    "wt",
    "tw",
    "tb",
    "be tw",
    "te",
    "ew",
    "eb",
    "bw",
    "",
  ];
  for (let j = 0; j < cells; j += 1) {
    for (let i = 0; i < cells; i += 1) {
      const corner = (di, dj) => (values[(j + dj) * size + i + di] > 0 ? 1 : 0);
      const which = corner(0, 0) + 2 * corner(1, 0) + 4 * corner(1, 1) + 8 * corner(0, 1);
      const edges = {
        b: () => crossing(i, j, true),
        t: () => crossing(i, j + 1, true),
        w: () => crossing(i, j, false),
        e: () => crossing(i + 1, j, false),
      };
      for (const pair of cases[which].split(" ")) if (pair) next.set(edges[pair[0]](), edges[pair[1]]());
    }
  }

  const loops = [];
  while (next.size) {
    const loop = [];
    let edge = next.keys().next().value;
    while (next.has(edge)) {
      loop.push(points.get(edge));
      const following = next.get(edge);
      next.delete(edge);
      edge = following;
    }
    loops.push(loop);
  }
  return loops;
};
