// Writes a file of a dense, a compressed and a sparse tensor, and compares what another language wrote with it:
//
//     c++ -std=c++17 tensors.cpp $(pkg-config --cflags --libs ztensor) -o tensors
//     ./tensors write mine.zt && ./tensors check theirs.zt

#include <algorithm>
#include <iostream>
#include <string_view>
#include <vector>

#include <ztensor.hpp>

using ztensor::BFloat16;

// Elements of the bfloat16 tensors: 1, 1.0078125, ..., 1.9921875 and again.
static std::vector<BFloat16> cycle(std::size_t count) {
    std::vector<BFloat16> found(count);
    for (std::size_t i = 0; i < count; i++) {
        found[i].bits = static_cast<std::uint16_t>(0x3f80 + i % 128);
    }
    return found;
}

// 1 0 2
// 0 3 0
static const std::vector<float> values = {1, 2, 3};
static const std::vector<std::int32_t> columns = {0, 2, 1};
static const std::vector<std::int64_t> row_starts = {0, 2, 3};

static void write(const std::string &path) {
    ztensor::Writer writer(path, R"({"language": "C++"})");
    writer.add_dense<BFloat16>("dense", {2, 4}, cycle(8));
    writer.add_dense<BFloat16>("compressed", {256, 256}, cycle(65536), 3);
    writer.add_csr("csr", {2, 3}, values, columns, row_starts);
    writer.finish();
}

template <class T>
static bool equal(const ztensor::Buffer &read, const std::vector<T> &wanted) {
    return read.size() == wanted.size() * sizeof(T) && std::memcmp(read.data(), wanted.data(), read.size()) == 0;
}

// Whether layout, shape and the element types of the components are these.
static bool is_alike(const ztensor::Reader &reader, const std::string &name, ZtLayout layout,
                     const std::vector<std::uint64_t> &shape, const std::vector<ZtDtype> &types) {
    const ZtTensor &found = reader.tensors()[reader.number(name)];
    return found.layout == layout && std::equal(shape.begin(), shape.end(), found.shape, found.shape + found.ndim) &&
           std::equal(types.begin(), types.end(), found.components, found.components + found.component_count,
                      [](ZtDtype type, const ZtComponent &part) { return part.dtype == type; });
}

static bool check(const std::string &path) {
    const ztensor::Reader reader(path);
    reader.verify();
    return is_alike(reader, "dense", ZT_DENSE, {2, 4}, {ZT_BFLOAT16}) && equal(reader.read("dense"), cycle(8)) &&
           is_alike(reader, "compressed", ZT_DENSE, {256, 256}, {ZT_BFLOAT16}) &&
           equal(reader.read("compressed"), cycle(65536)) &&
           is_alike(reader, "csr", ZT_SPARSE_CSR, {2, 3}, {ZT_FLOAT32, ZT_INT32, ZT_INT64}) &&
           equal(reader.read("csr", 0), values) && equal(reader.read("csr", 1), columns) &&
           equal(reader.read("csr", 2), row_starts);
}

int main(int argc, char **argv) try {
    if (argc != 3) {
        std::cerr << "usage: tensors write|check FILE\n";
        return 2;
    }
    if (std::string_view(argv[1]) == "write") {
        write(argv[2]);
    } else if (!check(argv[2])) {
        std::cerr << argv[2] << " holds something else\n";
        return 1;
    }
    return 0;
} catch (const ztensor::Error &error) {
    std::cerr << error.name() << ": " << error.what() << '\n';
    return 1;
}
