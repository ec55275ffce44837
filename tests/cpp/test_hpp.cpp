// ztensor.hpp, function by function: results, failures, lifetimes.

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <type_traits>

#include <ztensor.hpp>

#include "../c/check.h"

using ztensor::Batch;
using ztensor::Buffer;
using ztensor::Component;
using ztensor::Reader;
using ztensor::View;
using ztensor::Writer;

// The status that a call fails with; ZT_OK if it does not.
template <class Call>
ZtStatus status_of(Call call) {
    try {
        call();
    } catch (const ztensor::Error &error) {
        return *error.what() != '\0' ? error.status() : -1;
    }
    return ZT_OK;
}

static_assert(!std::is_copy_constructible_v<Reader> && std::is_nothrow_move_constructible_v<Reader>);
static_assert(!std::is_copy_constructible_v<Writer> && std::is_nothrow_move_constructible_v<Writer>);
static_assert(!std::is_copy_constructible_v<Buffer> && std::is_nothrow_move_assignable_v<Buffer>);
static_assert(std::is_constructible_v<View<const float>, std::vector<float>>);
static_assert(!std::is_constructible_v<View<float>, const std::vector<float> &>, "constness is kept");
static_assert(!std::is_constructible_v<View<const float>, std::vector<double>>, "elements are not converted");
static_assert(ztensor::dtype_of<long>::value == ZT_INT64 && ztensor::dtype_of<long long>::value == ZT_INT64);
static_assert(ztensor::dtype_of<unsigned char>::value == ZT_UINT8 && ztensor::dtype_of<bool>::value == ZT_BOOL);

// Whether a number can stand where a pointer should: written out, 0 is both.
template <class T, class = void>
struct takes_zero : std::false_type {};
template <class T>
struct takes_zero<T, std::void_t<decltype(T{0, 1})>> : std::true_type {};
static_assert(!takes_zero<View<const std::size_t>>::value && std::is_constructible_v<View<int>, int *, int>);

static const std::vector<float> weights = {1, 2, 3, 4, 5, 6};
static const std::array<float, 3> values = {1, 2, 3};
static const std::array<std::int32_t, 3> columns = {0, 2, 1};
static const std::vector<std::int64_t> starts = {0, 2, 3};

static std::vector<ztensor::BFloat16> packed() {
    std::vector<ztensor::BFloat16> found(4096);
    for (std::size_t i = 0; i < found.size(); i++) {
        found[i].bits = static_cast<std::uint16_t>(0x3f80 + i % 100);
    }
    return found;
}

static void add_all(Writer &writer) {
    writer.add_dense<float>("weights", {2, 3}, weights, 0, R"({"unit":"volt"})");
    writer.add_dense<ztensor::BFloat16>("packed", {4096}, packed(), 3);
    writer.add_csr("graph", {2, 3}, values, columns, starts);
    writer.add_dense<float>("scalar", {}, View<const float>(weights.data(), 1));
}

static Buffer sample() {
    Writer writer = Writer::in_memory(R"({"epoch":3})");
    add_all(writer);
    return writer.finish_memory();
}

static void test_descriptions(const Reader &reader) {
    CHECK(reader.size() == 4 && reader.format() == "zt/1");
    CHECK(reader.tensors().size() == 4 && reader.tensors()[1].dtype == ZT_BFLOAT16);
    CHECK(reader.find("graph") == std::optional<std::size_t>(2));
    CHECK(reader.find("nothing") == std::nullopt);
    CHECK(status_of([&] { reader.number("nothing"); }) == ZT_ERR_NOT_FOUND);
    CHECK(reader.metadata() == R"({"epoch":3})");
    CHECK(reader.attributes(0) == R"({"unit":"volt"})" && reader.attributes(1) == "{}");
    CHECK(status_of([&] { reader.attributes(9); }) == ZT_ERR_RANGE);
}

static void test_reading(const Reader &reader) {
    const Buffer read = reader.read("weights", 0, ZT_VERIFY_ON);
    CHECK(std::equal(weights.begin(), weights.end(), read.as<float>().begin(), read.as<float>().end()));
    CHECK(status_of([&] { reader.read_stored(0, 0).as<std::array<char, 7>>(); }) == ZT_ERR_SIZE);
    CHECK(reader.read("graph", 1).as<std::int32_t>()[1] == 2);
    CHECK(reader.read_range(0, 0, 4, 2).as<float>()[0] == 5);
    CHECK(status_of([&] { reader.read_range(0, 0, 5, 2); }) == ZT_ERR_RANGE);
    CHECK(reader.read_stored(1, 0).size() == reader.tensors()[1].components[0].stored_len);

    std::vector<ztensor::BFloat16> own(4096);
    reader.read_into(1, 0, View<ztensor::BFloat16>(own));
    CHECK(own[99].bits == 0x3f80 + 99);
    std::array<float, 7> longer{};
    CHECK(status_of([&] { reader.read_into(0, 0, View<float>(longer)); }) == ZT_ERR_SIZE);
    const ZtTarget targets[] = {{1, 0, own.data(), own.size() * 2}};
    reader.read_into(targets);

    const std::size_t two[] = {2, 0};
    const Batch batch = reader.read_many(two);
    CHECK(batch.size() == 4 && batch.as<std::int64_t>(2)[1] == 2 && batch.as<float>(3)[5] == 6);
    CHECK(status_of([&] { batch.as<float>(4); }) == ZT_ERR_RANGE);
    CHECK(reader.read_all().size() == 6);
    // A list of numbers is these numbers, 0 too, and one of no numbers reads nothing.
    CHECK(reader.read_many({0, 1}).size() == 2 && reader.read_many({0, 0}).size() == 2);
    CHECK(reader.read_many({2}).size() == 3 && reader.read_many({0}, ZT_VERIFY_ON).as<float>(0)[5] == 6);
    const std::vector<std::size_t> none;
    CHECK(reader.read_many({two, 1}).size() == 3);
    CHECK(reader.read_many(none).size() == 0 && reader.read_many({}).size() == 0 && reader.read_many({two, 0}).size() == 0);
    reader.read_into(View<const ZtTarget>());
    CHECK(status_of([&] { reader.read_many({0, 9}); }) == ZT_ERR_RANGE);
}

// A type of the caller's own that has the bytes of an element type.
struct Index {
    std::int32_t number;
};
template <>
struct ztensor::dtype_of<Index> : std::integral_constant<ZtDtype, ZT_INT32> {};

static void test_types(const Reader &reader) {
    // Types of one size are different types.
    const Buffer read = reader.read("weights");
    CHECK(read.dtype() == ZT_FLOAT32 && read.as<const float>().size() == 6);
    CHECK(status_of([&] { read.as<std::int32_t>(); }) == ZT_ERR_ARGUMENT);
    CHECK(status_of([&] { read.as<double>(); }) == ZT_ERR_ARGUMENT);
    CHECK(status_of([&] { read.as<std::array<char, 4>>(); }) == ZT_ERR_ARGUMENT);
    CHECK(read.as<std::byte>().size() == 24);
    CHECK(status_of([&] { reader.read("packed").as<std::uint16_t>(); }) == ZT_ERR_ARGUMENT);
    CHECK(status_of([&] { reader.read("packed").as<ztensor::Float16>(); }) == ZT_ERR_ARGUMENT);
    CHECK(status_of([&] { reader.read_range(0, 0, 1, 2).as<std::uint32_t>(); }) == ZT_ERR_ARGUMENT);
    CHECK(status_of([&] { reader.read("graph", 2).as<std::uint64_t>(); }) == ZT_ERR_ARGUMENT);
    CHECK(reader.read("graph", 1).as<Index>()[1].number == 2);
    try {
        read.as<std::int32_t>();
    } catch (const ztensor::Error &error) {
        CHECK(std::string_view(error.what()).find("float32, not int32") != std::string_view::npos);
    }

    for (const Batch &batch : {reader.read_all(), reader.read_many({0, 1, 2, 3})}) {
        CHECK(batch.dtype(1) == ZT_BFLOAT16 && batch.dtype(3) == ZT_INT32 && batch.dtype(6) == 0);
        CHECK(status_of([&] { batch.as<std::int32_t>(0); }) == ZT_ERR_ARGUMENT);
        CHECK(status_of([&] { batch.as<std::int32_t>(4); }) == ZT_ERR_ARGUMENT);
        CHECK(batch.as<std::byte>(1).size() == 8192);
    }

    std::array<std::int32_t, 6> other{};
    std::array<std::byte, 24> bytes{};
    CHECK(status_of([&] { reader.read_into(0, 0, View<std::int32_t>(other)); }) == ZT_ERR_ARGUMENT && other[0] == 0);
    reader.read_into(0, 0, View<std::byte>(bytes));
    CHECK(std::memcmp(bytes.data(), weights.data(), 24) == 0);

    // Bytes that are not elements are whatever they are taken for.
    CHECK(reader.read_stored(0, 0).dtype() == 0 && reader.read_stored(0, 0).as<float>()[5] == 6);
}

static void test_error_numbers() {
    const auto number_of = [](auto call) {
        try {
            call();
        } catch (const ztensor::Error &error) {
            return error.error_number();
        }
        return -1;
    };
    CHECK(number_of([] { Reader("nothing.zt"); }) == ENOENT && number_of([] { Reader("."); }) == EISDIR);
    CHECK(number_of([] { Writer("nowhere/at all.zt"); }) == ENOENT && number_of([] { Writer("."); }) == EISDIR);
    // An earlier failure does not show in one of another kind.
    CHECK(number_of([] { Reader::from_memory("no file", 7); }) == 0);
    CHECK(number_of([] { Writer(std::string("nul\0.zt", 7)); }) == 0);
}

static void test_verify(const Reader &reader) {
    int reports = 0;
    reader.verify();
    reader.verify([&](std::uint64_t done, std::uint64_t total) { return ++reports, done <= total; });
    CHECK(reports > 0);
    CHECK(status_of([&] { reader.verify([](auto, auto) { return false; }); }) == ZT_ERR_CANCELLED);
    // An exception of the callback's comes out as it is.
    bool came_out = false;
    try {
        reader.verify([](auto, auto) -> bool { throw std::out_of_range("enough"); });
    } catch (const std::out_of_range &error) {
        came_out = std::string_view(error.what()) == "enough";
    }
    CHECK(came_out);
}

static void test_progress(const Reader &reader) {
    int reports = 0;
    {
        const ztensor::ProgressScope scope(
            [&](std::uint64_t done, std::uint64_t total) { return ++reports, done < total; });
        CHECK(status_of([&] { reader.verify(); }) == ZT_ERR_CANCELLED && reports == 1);
        bool came_out = false;
        {
            const ztensor::ProgressScope inner([](auto, auto) -> bool { throw std::out_of_range("enough"); });
            try {
                reader.verify();
            } catch (const std::out_of_range &) {
                came_out = true;
            }
        }
        CHECK(came_out);
        {
            const ztensor::ProgressScope none({});
            reader.verify();
        }
        CHECK(status_of([&] { reader.verify(); }) == ZT_ERR_CANCELLED && reports == 2);
    }
    reader.verify();
    CHECK(reports == 2);
}

static void test_lifetimes(const Buffer &file) {
    Buffer kept;
    CHECK(kept.size() == 0 && kept.data() == nullptr && kept.as<float>().empty());
    std::optional<Batch> batch;
    {
        Reader first = Reader::from_memory(file.data(), file.size());
        Reader second = std::move(first);
        kept = second.read("packed");
        batch = second.read_all();
    }
    // What was read outlives the reader, and may be written to.
    kept.as<ztensor::BFloat16>()[0].bits = 7;
    CHECK(kept.as<ztensor::BFloat16>()[0].bits == 7 && kept.as<ztensor::BFloat16>()[1].bits == 0x3f81);
    CHECK(batch->as<float>(0)[0] == 1);
#ifdef __cpp_lib_span
    const std::span<ztensor::BFloat16> span = kept.as<ztensor::BFloat16>();
    CHECK(span.size() == 4096 && span[0].bits == 7);
#endif
}

static void test_lent_memory() {
    std::vector<unsigned char> memory(4096);
    Writer writer = Writer::in_memory();
    writer.lend(memory.data(), memory.size());
    writer.add_dense<float>("weights", {6}, weights);
    const ztensor::Buffer file = writer.finish_memory();
    CHECK(file.data() == memory.data() && Reader::from_memory(memory.data(), file.size()).read("weights").as<float>()[0] == weights[0]);
}

static void test_failures() {
    Writer writer = Writer::in_memory();
    const std::vector<Component> wrong = {Component(values)};
    CHECK(status_of([&] { writer.add("graph", ZT_SPARSE_CSR, {}, wrong); }) == ZT_ERR_LAYOUT);
    CHECK(status_of([&] { writer.add_dense<float>("weights", {7}, weights); }) == ZT_ERR_SIZE);
    CHECK(status_of([&] { writer.add_dense<float>("weights", {6}, weights, 99); }) == ZT_ERR_ARGUMENT);
    CHECK(status_of([&] { writer.finish(); }) == ZT_ERR_ARGUMENT);
    CHECK(status_of([] { Writer::in_memory("{"); }) == ZT_ERR_ARGUMENT);
    CHECK(status_of([] { Reader("nothing.zt"); }) == ZT_ERR_FILE_NOT_FOUND);
    CHECK(status_of([] { Reader::from_memory("no file", 7); }) != ZT_OK);
    CHECK(ztensor::Error(ZT_ERR_CHECKSUM).name() == "CHECKSUM" && ztensor::Error(12345).name().empty());
    CHECK(ztensor::version() == EXPECTED_VERSION);
}

// A NUL ends text in C. What stands before it is not what was meant.
static void test_text_with_a_nul(const Reader &reader) {
    const std::string name("weights\0.bias", 13), path("nul\0.zt", 7), metadata("{\"a\":1}\0,\"b\":2}", 15);
    CHECK(reader.find("weights") && reader.find(name) == std::nullopt);
    CHECK(status_of([&] { reader.number(name); }) == ZT_ERR_NOT_FOUND);
    CHECK(status_of([&] { reader.read(name); }) == ZT_ERR_NOT_FOUND);
    CHECK(status_of([&] { Writer writer(path); }) == ZT_ERR_ARGUMENT && std::filesystem::is_empty("."));
    CHECK(status_of([&] { Writer writer("nul", metadata); }) == ZT_ERR_ARGUMENT);
    CHECK(status_of([&] { Writer::in_memory(metadata); }) == ZT_ERR_ARGUMENT);
    Writer writer("nul");
    CHECK(status_of([&] { writer.add_dense<float>(name, {6}, weights); }) == ZT_ERR_NAME);
    CHECK(status_of([&] { writer.add_dense<float>("weights", {6}, weights, 0, metadata); }) == ZT_ERR_ARGUMENT);
    writer.finish();
    CHECK(status_of([&] { Reader opened(path); }) == ZT_ERR_ARGUMENT);
    CHECK(std::filesystem::remove("nul"));
}

static void test_files() {
    {
        Writer abandoned("hpp.zt");
        add_all(abandoned);
    }
    CHECK(!std::filesystem::exists("hpp.zt"));
    Writer writer("hpp.zt", R"({"epoch":3})", ZT_FSYNC_NEVER);
    add_all(writer);
    // Blocks of 1 row and 3 columns.
    const std::uint64_t shape[] = {2, 3};
    const std::array<std::int32_t, 2> block_columns = {0, 0};
    const std::array<std::int32_t, 3> block_starts = {0, 1, 2};
    const Component blocks[] = {Component(weights), Component(block_columns), Component(block_starts)};
    writer.add("blocks", ZT_SPARSE_BSR, shape, blocks, 0, {}, {1, 3});
    writer.finish();
    CHECK(status_of([&] { writer.finish(); }) == ZT_ERR_STATE);
    const Reader reader("hpp.zt", ZT_READ_OWNED | ZT_READ_VERIFY);
    CHECK(reader.tensors()[4].blocksize[1] == 3 && reader.read("blocks").as<float>()[3] == 4);
    CHECK(std::filesystem::remove("hpp.zt"));
}

int main() {
    const Buffer file = sample();
    {
        const Reader reader = Reader::from_memory(file.data(), file.size());
        test_descriptions(reader);
        test_reading(reader);
        test_types(reader);
        test_verify(reader);
        test_progress(reader);
        test_text_with_a_nul(reader);
    }
    test_lifetimes(file);
    test_lent_memory();
    test_failures();
    test_error_numbers();
    test_files();
    return check_report("test_hpp");
}
