// Writes a file of a dense, a compressed and a sparse tensor, and compares what another language wrote with it:
//
//     c++ -std=c++17 tensors.cpp $(pkg-config --cflags --libs ztensor) -o tensors
//     ./tensors write mine.zt && ./tensors check theirs.zt

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

static bool check(const std::string &path) {
    const ztensor::Reader reader(path);
    reader.verify();
    const ZtTensor &csr = reader.tensors()[reader.number("csr")];
    return equal(reader.read("dense"), cycle(8)) && equal(reader.read("compressed"), cycle(65536)) &&
           csr.layout == ZT_SPARSE_CSR && csr.shape[0] == 2 && csr.shape[1] == 3 && equal(reader.read("csr", 0), values) &&
           equal(reader.read("csr", 1), columns) && equal(reader.read("csr", 2), row_starts);
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
