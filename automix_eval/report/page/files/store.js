// The texts lie in the file as deflated chunks and are opened when they are first looked at.

async function openChunk(id) {
  const binary = atob(byId(id).textContent);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i += 1) bytes[i] = binary.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

/** Items of one kind by number; each chunk is opened once. */
class Store {
  constructor(name, starts) {
    this.name = name;
    this.starts = starts;
    this.chunks = new Map();
  }

  chunk(i) {
    if (!this.chunks.has(i)) this.chunks.set(i, openChunk(this.name + i));
    return this.chunks.get(i);
  }

  async get(item) {
    let low = 0;
    let high = this.starts.length;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (this.starts[middle] <= item) low = middle;
      else high = middle;
    }
    return (await this.chunk(low))[item - this.starts[low]];
  }

  /** All items in order. */
  async all() {
    return (await Promise.all(this.starts.map((_, i) => this.chunk(i)))).flat();
  }
}
