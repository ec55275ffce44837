-- Writes a file of a dense, a compressed and a sparse tensor, and compares what another language wrote with it. For LuaJIT:
--
--     luajit tensors.lua write mine.zt && luajit tensors.lua check theirs.zt
--
-- ZTENSOR_PREFIX says where the library is installed, /usr/local if it is not set.

local ffi = require("ffi")

-- LuaJIT takes the header's declarations as they are; constants become those of C, other preprocessor lines go.
local prefix = os.getenv("ZTENSOR_PREFIX") or "/usr/local"
local declarations = {}
for line in io.lines(prefix .. "/include/ztensor.h") do
  local name, value = line:match("^#define (ZT_[%w_]+) (%d+)$")
  if name then
    table.insert(declarations, ("static const int %s = %s;"):format(name, value))
  elseif not line:match("^#") and not line:match('extern "C"') then
    table.insert(declarations, line)
  end
end
ffi.cdef(table.concat(declarations, "\n"))
local zt = ffi.load(prefix .. "/lib/libztensor.so.0")
assert(zt.zt_abi_version() == zt.ZT_ABI_VERSION, "the header and the library do not belong together")

local function check(status)
  if status ~= zt.ZT_OK then error(ffi.string(zt.zt_last_error_message()), 2) end
end

-- bfloat16 values as bits: 1, 1.0078125, ..., 1.9921875 and again.
local function cycle(count)
  local values = ffi.new("uint16_t[?]", count)
  for i = 0, count - 1 do values[i] = 0x3f80 + i % 128 end
  return { zt.ZT_BFLOAT16, values }
end

local tensors = {
  { name = "dense", layout = zt.ZT_DENSE, shape = { 2, 4 }, level = 0, cycle(8) },
  { name = "compressed", layout = zt.ZT_DENSE, shape = { 256, 256 }, level = 3, cycle(65536) },
  -- 1 0 2
  -- 0 3 0
  {
    name = "csr", layout = zt.ZT_SPARSE_CSR, shape = { 2, 3 }, level = 0,
    { zt.ZT_FLOAT32, ffi.new("float[3]", 1, 2, 3) },
    { zt.ZT_INT32, ffi.new("int32_t[3]", 0, 2, 1) },
    { zt.ZT_INT64, ffi.new("int64_t[3]", 0, 2, 3) },
  },
}

local function add(writer, tensor)
  -- What a struct points to is kept by these names until the call is made.
  local shape = ffi.new("uint64_t[?]", #tensor.shape, tensor.shape)
  local parts = ffi.new("ZtComponentSpec[?]", #tensor)
  for i, part in ipairs(tensor) do
    parts[i - 1].dtype, parts[i - 1].data, parts[i - 1].len = part[1], part[2], ffi.sizeof(part[2])
  end
  local spec = ffi.new("ZtTensorSpec", {
    name = tensor.name, name_len = #tensor.name, shape = shape, ndim = #tensor.shape, components = parts,
    component_count = #tensor, dtype = parts[0].dtype, layout = tensor.layout, level = tensor.level,
  })
  check(zt.zt_writer_add(writer, spec, 1))
end

local function write(path)
  local out = ffi.new("ZtWriter *[1]")
  check(zt.zt_writer_create(path, zt.ZT_FSYNC_AUTO, 0, '{"language": "Lua"}', out))
  local writer = ffi.gc(out[0], zt.zt_writer_free)
  for _, tensor in ipairs(tensors) do add(writer, tensor) end
  check(zt.zt_writer_finish(writer))
end

local function compare(path)
  local out, number, buffer = ffi.new("ZtReader *[1]"), ffi.new("size_t[1]"), ffi.new("ZtBuffer *[1]")
  check(zt.zt_reader_open(path, zt.ZT_READ_MMAP, 0, out))
  local reader = ffi.gc(out[0], zt.zt_reader_free)
  for _, tensor in ipairs(tensors) do
    check(zt.zt_reader_find(reader, tensor.name, number))
    -- Every layout has three components or fewer.
    local about, parts = ffi.new("ZtTensor"), ffi.new("ZtComponent[3]")
    check(zt.zt_reader_describe(reader, number[0], about, parts, 3))
    assert(about.layout == tensor.layout and about.ndim == #tensor.shape, tensor.name .. " is of another layout")
    for i, size in ipairs(tensor.shape) do assert(about.shape[i - 1] == size, tensor.name .. " is of another shape") end
    for i, part in ipairs(tensor) do
      assert(parts[i - 1].dtype == part[1], tensor.name .. " is of another type")
      check(zt.zt_reader_read(reader, number[0], i - 1, zt.ZT_VERIFY_ON, buffer))
      local read = ffi.gc(buffer[0], zt.zt_buffer_free)
      local found = ffi.string(zt.zt_buffer_data(read), zt.zt_buffer_len(read))
      assert(found == ffi.string(part[2], ffi.sizeof(part[2])), tensor.name .. " holds something else")
    end
  end
end

local actions = { write = write, check = compare }
local action = assert(arg[2] and actions[arg[1]], "usage: luajit tensors.lua write|check FILE")
action(arg[2])
