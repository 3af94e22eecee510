/*
Random numbers that a seed fixes: xoshiro128** (Blackman and Vigna, 2018), its four words
filled by a 32-bit SplitMix counter. Period 2^128 - 1; the same draws in every browser.
*/
nx.random = function (seed) {
  const s = new Uint32Array(4);
  for (let i = 0; i < 4; i += 1) {
    seed = (seed + 0x9e3779b9) | 0;
    let z = Math.imul(seed ^ (seed >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    s[i] = z ^ (z >>> 15);
  }
  const turn = (x, k) => (x << k) | (x >>> (32 - k));

  function word() {
    const result = Math.imul(turn(Math.imul(s[1], 5), 7), 9) >>> 0;
    const t = s[1] << 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = turn(s[3], 11);
    return result;
  }

  // Strictly between 0 and 1, so that a logarithm or an inverse distribution never meets an end.
  const uniform = () => (word() + 0.5) / 4294967296;

  // Box and Muller (1958), one of the pair.
  const normal = () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());

  return { word, uniform, normal };
};
