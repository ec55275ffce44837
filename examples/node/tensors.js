// Writes a file of a dense, a compressed and a sparse tensor, and compares what another language wrote with it:
//
//     npm install && node tensors.js write mine.zt && node tensors.js check theirs.zt
'use strict';

const assert = require('node:assert');
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
koffi.struct('ZtComponent', {
  role_name: 'const char *', dtype_name: 'const char *', encoding_name: 'const char *', offset: 'uint64_t',
  stored_len: 'uint64_t', len: 'uint64_t', chunk_len: 'uint64_t', crc32: 'uint32_t', has_crc32: 'int32_t', role: 'int32_t',
  dtype: 'int32_t', encoding: 'int32_t', filter: 'int32_t',
});
koffi.struct('ZtTensor', {
  name: 'const char *', name_len: 'size_t', shape: 'const uint64_t *', ndim: 'size_t', components: 'const ZtComponent *',
  component_count: 'size_t', len: 'uint64_t', blocksize: koffi.array('uint64_t', 2), dtype_name: 'const char *',
  layout_name: 'const char *', dtype: 'int32_t', layout: 'int32_t', has_attributes: 'int32_t', reserved: 'int32_t',
});

const library = koffi.load(process.env.ZTENSOR_LIBRARY || 'libztensor.so.0');
const abiVersion = library.func('uint32_t zt_abi_version(void)');
const lastError = library.func('const char *zt_last_error_message(void)');
const openReader = library.func('int zt_reader_open(const char *path, uint32_t flags, size_t threads, _Out_ ZtReader **reader)');
const findTensor = library.func('int zt_reader_find(const ZtReader *reader, const char *name, _Out_ size_t *number)');
const describeTensor = library.func(
  'int zt_reader_describe(const ZtReader *reader, size_t number, _Out_ ZtTensor *tensor, ZtComponent *components, size_t capacity)');
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

/** Layout, shape and element types of a tensor. Every layout has three components or fewer. */
function describe(reader, number) {
  const tensor = {}, memory = koffi.alloc('ZtComponent', 3);
  try {
    check(describeTensor(reader, number, tensor, memory, 3));
    const parts = koffi.decode(memory, koffi.array('ZtComponent', Number(tensor.component_count)));
    const shape = koffi.decode(tensor.shape, koffi.array('uint64_t', Number(tensor.ndim), 'Array'));
    return { layout: tensor.layout, shape: shape.map(Number), dtypes: parts.map((part) => part.dtype) };
  } finally {
    koffi.free(memory);
  }
}

/** Reads a component into a Buffer of JavaScript's own. */
function read(reader, number, component) {
  const out = [null];
  check(readComponent(reader, number, component, ZT_VERIFY_ON, out));
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
    for (const { name, layout, shape, components } of tensors) {
      const number = [0];
      check(findTensor(reader, name, number));
      const wanted = { layout, shape, dtypes: components.map(([dtype]) => dtype) };
      assert.deepStrictEqual(describe(reader, number[0]), wanted, `${name} is of another kind`);
      components.forEach(([, data], at) => {
        if (!read(reader, number[0], at).equals(data)) throw new Error(`${name}, component ${at}, holds something else`);
      });
    }
  } finally {
    freeReader(reader);
  }
}

({ write, check: compare })[process.argv[2]](process.argv[3]);
