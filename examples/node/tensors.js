// Writes a file of a dense, a compressed and a sparse tensor, and compares what another language wrote with it:
//
//     npm install && node tensors.js write mine.zt && node tensors.js check theirs.zt
'use strict';

const koffi = require('koffi');

// Of ztensor.h, what is used here.
const ZT_ABI_VERSION = 1, ZT_READ_MMAP = 0, ZT_VERIFY_ON = 1, ZT_FSYNC_AUTO = 0;
const ZT_FLOAT32 = 2, ZT_BFLOAT16 = 4, ZT_INT64 = 5, ZT_INT32 = 6;
const ZT_DENSE = 1, ZT_SPARSE_CSR = 2;

koffi.opaque('ZtReader');
koffi.opaque('ZtWriter');
koffi.opaque('ZtBuffer');
koffi.struct('ZtComponentSpec', {
  data: 'const uint8_t *', len: 'size_t', share: 'uint64_t', dtype: 'int32_t', reserved: 'int32_t',
});
koffi.struct('ZtTensorSpec', {
  name: 'const char *', name_len: 'size_t', shape: 'const uint64_t *', ndim: 'size_t',
  components: 'const ZtComponentSpec *', component_count: 'size_t', attributes: 'const char *', attributes_len: 'size_t',
  blocksize: koffi.array('uint64_t', 2), dtype: 'int32_t', layout: 'int32_t', level: 'int32_t', reserved: 'int32_t',
});

const library = koffi.load(process.env.ZTENSOR_LIBRARY || 'libztensor.so.0');
const abiVersion = library.func('uint32_t zt_abi_version(void)');
const lastError = library.func('const char *zt_last_error_message(void)');
const openReader = library.func('int zt_reader_open(const char *path, uint32_t flags, size_t threads, _Out_ ZtReader **reader)');
const findTensor = library.func('int zt_reader_find(const ZtReader *reader, const char *name, _Out_ size_t *number)');
const readComponent = library.func(
  'int zt_reader_read(const ZtReader *reader, size_t tensor, size_t component, int32_t verify, _Out_ ZtBuffer **buffer)');
const freeReader = library.func('void zt_reader_free(ZtReader *reader)');
const bufferData = library.func('void *zt_buffer_data(const ZtBuffer *buffer)');
const bufferLen = library.func('size_t zt_buffer_len(const ZtBuffer *buffer)');
const freeBuffer = library.func('void zt_buffer_free(ZtBuffer *buffer)');
const createWriter = library.func(
  'int zt_writer_create(const char *path, uint32_t flags, size_t threads, const char *metadata, _Out_ ZtWriter **writer)');
const addTensors = library.func('int zt_writer_add(ZtWriter *writer, const ZtTensorSpec *tensors, size_t count)');
const finishWriter = library.func('int zt_writer_finish(ZtWriter *writer)');
const freeWriter = library.func('void zt_writer_free(ZtWriter *writer)');

if (abiVersion() !== ZT_ABI_VERSION) throw new Error('this script was written for another library');

function check(status) {
  if (status) throw new Error(lastError());
}

/** The bytes of a typed array. */
const bytes = (array) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);

/** bfloat16 values as bits: 1, 1.0078125, ..., 1.9921875 and again. */
const cycle = (count) => [ZT_BFLOAT16, bytes(Uint16Array.from({ length: count }, (_, i) => 0x3f80 + (i % 128)))];

const tensors = [
  { name: 'dense', layout: ZT_DENSE, shape: [2, 4], level: 0, components: [cycle(8)] },
  { name: 'compressed', layout: ZT_DENSE, shape: [256, 256], level: 3, components: [cycle(65536)] },
  // 1 0 2
  // 0 3 0
  {
    name: 'csr', layout: ZT_SPARSE_CSR, shape: [2, 3], level: 0,
    components: [
      [ZT_FLOAT32, bytes(Float32Array.of(1, 2, 3))],
      [ZT_INT32, bytes(Int32Array.of(0, 2, 1))],
      [ZT_INT64, bytes(BigInt64Array.of(0n, 2n, 3n))],
    ],
  },
];

function write(path) {
  const out = [null];
  check(createWriter(path, ZT_FSYNC_AUTO, 0, JSON.stringify({ language: 'JavaScript' }), out));
  const [writer] = out;
  try {
    check(addTensors(writer, tensors.map(({ name, layout, shape, level, components }) => ({
      name, name_len: Buffer.byteLength(name), shape, ndim: shape.length,
      components: components.map(([dtype, data]) => ({ data, len: data.length, share: 0, dtype, reserved: 0 })),
      component_count: components.length, attributes: null, attributes_len: 0, blocksize: [0, 0],
      dtype: components[0][0], layout, level, reserved: 0,
    })), tensors.length));
    check(finishWriter(writer));
  } finally {
    freeWriter(writer);
  }
}

/** Reads a component into a Buffer of JavaScript's own. */
function read(reader, name, component) {
  const number = [0], out = [null];
  check(findTensor(reader, name, number));
  check(readComponent(reader, number[0], component, ZT_VERIFY_ON, out));
  const [buffer] = out;
  try {
    return Buffer.from(koffi.decode(bufferData(buffer), koffi.array('uint8_t', Number(bufferLen(buffer)))));
  } finally {
    freeBuffer(buffer);
  }
}

function compare(path) {
  const out = [null];
  check(openReader(path, ZT_READ_MMAP, 0, out));
  const [reader] = out;
  try {
    for (const { name, components } of tensors) {
      components.forEach(([, data], at) => {
        if (!read(reader, name, at).equals(data)) throw new Error(`${name}, component ${at}, holds something else`);
      });
    }
  } finally {
    freeReader(reader);
  }
}

({ write, check: compare })[process.argv[2]](process.argv[3]);
