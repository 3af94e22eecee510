/*
A network of linear layers as Python packs it: {layers: [{W, scales, b}, …], activations: [[name, number],
…]}, the activation k after layer k, and none after the last. Also the images that stand beside what it gives.
*/
nx.network = (function () {
  const sigmoid = (a) => 1 / (1 + Math.exp(-a));
  const activations = {
    ReLU: (a) => Math.max(a, 0),
    LeakyReLU: (a, slope) => (a < 0 ? slope * a : a),
    ELU: (a, alpha) => (a < 0 ? alpha * Math.expm1(a) : a),
    Tanh: (a) => Math.tanh(a),
    Sigmoid: (a) => sigmoid(a),
    SiLU: (a) => a * sigmoid(a),
  };

  // Rows of whole numbers from -127 to 127, each with its own scale: a row holds the weights of one output.
  function unpack(packed) {
    const layers = packed.layers.map(({ W, scales, b }) => {
      const values = nx.unpack(W),
        scale = nx.unpack(scales);
      const [outputs, inputs] = values.shape;
      return {
        outputs,
        inputs,
        W: Float64Array.from(values, (value, at) => value * scale[Math.floor(at / inputs)]),
        b: Float64Array.from(nx.unpack(b)),
      };
    });
    return { layers, activations: packed.activations };
  }

  function apply(network, input) {
    let h = Float64Array.from(input);
    network.layers.forEach(({ outputs, inputs, W, b }, l) => {
      const next = Float64Array.from(b);
      for (let o = 0; o < outputs; o += 1) {
        let sum = 0;
        for (let i = 0, at = o * inputs; i < inputs; i += 1, at += 1) sum += W[at] * h[i];
        next[o] += sum;
      }
      const [name, number] = network.activations[l] || [];
      h = name ? next.map((a) => activations[name](a, number)) : next;
    });
    return h;
  }

  // Images of four shades, four pixels in a byte: an array of `count` images with values 0, 1/3, 2/3 and 1.
  function images(base64, count, pixels) {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    const shade = (at) => ((bytes[at >> 2] >> (6 - 2 * (at & 3))) & 3) / 3;
    return Array.from({ length: count }, (_, n) =>
      Float64Array.from({ length: pixels }, (_, i) => shade(n * pixels + i)),
    );
  }

  return { sigmoid, unpack, apply, images };
})();
