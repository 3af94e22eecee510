/* The space of codes: a camera around it, what is near, and the machines that draw what a code stands for. */
nx.cloud = (function () {
  // Reads whole numbers that stand one after the other, the highest bit first: read(how many bits the next has).
  function reader(base64) {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    let held = 0,
      have = 0,
      at = 0;
    return (bits) => {
      for (; have < bits; have += 8) held = (held << 8) | bytes[at++];
      have -= bits;
      const value = held >> have;
      held &= (1 << have) - 1;
      return value;
    };
  }

  // A decoder without the units and the pixels that the page never sees, its weights multiples of a layer's step.
  function network(packed, pixels) {
    const layers = packed.layers.map(({ inputs, step, widths, W, b }) => {
      const biases = Float64Array.from(nx.unpack(b)),
        weights = new Float64Array(biases.length * inputs);
      const width = reader(widths),
        read = reader(W);
      for (let at = 0; at < weights.length; ) {
        const bits = width(4),
          top = 2 ** (bits - 1) - 1;
        for (let i = 0; i < inputs; i += 1) weights[at++] = bits && (read(bits) - top) * step;
      }
      return { outputs: biases.length, inputs, W: weights, b: biases };
    });
    const activations = layers.slice(1).map(() => ["ReLU", 0]);
    return (z) => {
      const image = new Float64Array(pixels);
      nx.network.apply({ layers, activations }, z).forEach((a, n) => {
        image[packed.kept[n]] = packed.law === "bernoulli" ? nx.network.sigmoid(a) : shade(a);
      });
      return image;
    };
  }
  const shade = (value) => Math.min(1, Math.max(0, value));

  // The decoder of principal components, x̄ + U z.
  function flat({ mean, axes }) {
    const middle = nx.unpack(mean),
      rows = nx.unpack(axes);
    const pixels = middle.length;
    return (z) =>
      Float64Array.from(middle, (value, i) =>
        shade(z.reduce((sum, coordinate, k) => sum + coordinate * rows[k * pixels + i], value)),
      );
  }

  // Images of four shades, each packed as the piece of it that is not the lightest.
  function images(base64, count, height, width) {
    const read = reader(base64);
    return Array.from({ length: count }, () => {
      const [top, left, high, wide] = [read(8), read(8), read(8), read(8)];
      const image = new Float64Array(height * width);
      for (let y = 0; y < high; y += 1)
        for (let x = 0; x < wide; x += 1) image[(top + y) * width + left + x] = read(2) / 3;
      return image;
    });
  }

  // Unit vectors to the right, up, and towards the eye; the third axis is upright. Degrees.
  function directions(yaw, pitch) {
    const [a, b] = [(yaw * Math.PI) / 180, (pitch * Math.PI) / 180];
    const [ca, sa, cb, sb] = [Math.cos(a), Math.sin(a), Math.cos(b), Math.sin(b)];
    return [
      [-sa, ca, 0],
      [-sb * ca, -sb * sa, cb],
      [cb * ca, cb * sa, sb],
    ];
  }
  const dot = (u, v) => u[0] * v[0] + u[1] * v[1] + u[2] * v[2];

  /* camera: {yaw, pitch, zoom, target, unit (half of the view), eye (its distance, in units), middle (pixels), size
     (pixels a unit)}. A code's place in pixels, how near it is (0 at the target, more towards the eye), and its
     magnification by being near. */
  const growth = (camera, near) => camera.eye / Math.max(0.5, camera.eye - near);
  function project(camera, z) {
    const [right, up, toward] = directions(camera.yaw, camera.pitch);
    const p = z.map((value, k) => (value - camera.target[k]) / camera.unit);
    const near = dot(toward, p),
      grown = growth(camera, near),
      size = camera.size * camera.zoom * grown;
    return [camera.middle[0] + size * dot(right, p), camera.middle[1] - size * dot(up, p), near, grown];
  }
  // The code that lies there, as near as is said.
  function unproject(camera, x, y, near) {
    const axes = directions(camera.yaw, camera.pitch);
    const size = camera.size * camera.zoom * growth(camera, near);
    const along = [(x - camera.middle[0]) / size, (camera.middle[1] - y) / size, near];
    return camera.target.map(
      (value, k) => value + camera.unit * along.reduce((sum, part, n) => sum + part * axes[n][k], 0),
    );
  }

  /* What the camera looks at, when it zooms: towards the cursor on the way in, which stays where it is seen, and
     back to the middle on the way out. */
  function retarget(from, zoom, next, cursor, middle) {
    const weights = next > zoom ? zoom / next : next > 1 ? (1 - 1 / next) / (1 - 1 / zoom) : 0;
    const anchor = next > zoom ? cursor : middle;
    return anchor.map((value, k) => value + weights * (from[k] - value));
  }

  // codes: three numbers of each in turn. Which one lies nearest, and how far away.
  function nearest(codes, z) {
    let found = { at: -1, distance: Infinity };
    for (let n = 0; 3 * n < codes.length; n += 1) {
      const distance = Math.hypot(codes[3 * n] - z[0], codes[3 * n + 1] - z[1], codes[3 * n + 2] - z[2]);
      if (distance < found.distance) found = { at: n, distance };
    }
    return found;
  }
  const between = (a, b, t) => a.map((value, k) => value + t * (b[k] - value));

  return { reader, network, flat, images, directions, project, unproject, retarget, nearest, between };
})();
