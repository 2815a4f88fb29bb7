// node compress.mjs: write FILE.br and FILE.gz beside each file whose path comes on standard input, one a line; what is not
// worth it stays alone.
import { readFileSync, writeFileSync } from "node:fs";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const WORTH = 0.95; // of the size, at most
const QUALITY = 9; // 11 makes it a twelfth smaller, and takes a minute

for (const path of readFileSync(0, "utf8").split("\n").filter(Boolean)) {
  const data = readFileSync(path);
  const options = { [constants.BROTLI_PARAM_QUALITY]: QUALITY, [constants.BROTLI_PARAM_LGWIN]: 22, [constants.BROTLI_PARAM_SIZE_HINT]: data.length };
  const packed = { br: brotliCompressSync(data, { params: options }), gz: gzipSync(data, { level: 9 }) };
  for (const [ending, bytes] of Object.entries(packed)) {
    if (bytes.length <= data.length * WORTH) writeFileSync(`${path}.${ending}`, bytes);
  }
}
