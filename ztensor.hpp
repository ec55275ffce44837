/**
 * @file
 * ztensor.h for C++17 and later: handles that free themselves, exceptions, views. Nothing to link but the C library.
 *
 *     #include <ztensor.hpp>
 *
 *     ztensor::Writer writer("model.zt");
 *     writer.add_dense<float>("weights", {2, 3}, values, 3);
 *     writer.finish();
 *
 *     ztensor::Reader reader("model.zt");
 *     ztensor::Buffer weights = reader.read("weights");
 *     for (float value : weights.as<float>()) std::cout << value << '\n';
 *
 * What a function does, what it asks for and which statuses it can meet is said in ztensor.h, at the C function that it
 * is named after. Where C answers a status other than ZT_OK, this throws ztensor::Error. Objects are moved, not copied;
 * one that was moved from can only be assigned to or destroyed. Threads may do with an object what they may with its
 * handle: share it, until it is destroyed or moved from.
 */
#ifndef ZTENSOR_HPP
#define ZTENSOR_HPP

#include <complex>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__has_include) && __cplusplus >= 202002L
#if __has_include(<span>)
#include <span>
#endif
#endif

#include "ztensor.h"

/** The C++ face of ztensor.h. */
namespace ztensor {

/** A call failed: its status, and the library's own message as what(). */
class Error : public std::runtime_error {
public:
    /** Takes a status, and the message that this thread's last failure left. */
    explicit Error(ZtStatus status)
        : std::runtime_error(zt_last_error_message()), status_(status), error_number_(zt_last_error_errno()) {}

    /** Takes a status and a message. */
    Error(ZtStatus status, const std::string &message) : std::runtime_error(message), status_(status) {}

    /** One of the ZT_ERR_ numbers. */
    ZtStatus status() const noexcept { return status_; }

    /** The `errno` of the operating system, such as EACCES; 0 if it did not refuse: zt_last_error_errno(). */
    int error_number() const noexcept { return error_number_; }

    /** The status as a word, such as "CHECKSUM". */
    std::string_view name() const noexcept {
        const char *found = zt_status_name(status_);
        return found ? found : "";
    }

private:
    ZtStatus status_;
    int error_number_ = 0;
};

/** Receives the bytes done and the bytes to do of a call, on the thread of the call. False stops it. */
using Progress = std::function<bool(std::uint64_t, std::uint64_t)>;

/** What is not for users. */
namespace detail {

/** What a callback threw: no exception may pass through the library, so it waits here, on the thread of the call. */
inline std::exception_ptr &thrown() noexcept {
    thread_local std::exception_ptr waiting;
    return waiting;
}

/** Calls a Progress for the library. */
inline std::int32_t report(std::uint64_t done, std::uint64_t total, void *user) noexcept {
    try {
        return (*static_cast<const Progress *>(user))(done, total) ? 0 : 1;
    } catch (...) {
        thrown() = std::current_exception();
        return 1;
    }
}

}  // namespace detail

/** Throws unless the status is ZT_OK: what a callback threw, or else an Error. */
inline void check(ZtStatus status) {
    if (status != ZT_OK) {
        if (const std::exception_ptr waiting = std::exchange(detail::thrown(), nullptr)) {
            std::rethrow_exception(waiting);
        }
        throw Error(status);
    }
}

/**
 * Reports long calls of this thread for as long as it lives: zt_set_progress(). A callback stops a call by answering false, which
 * is ZT_ERR_CANCELLED; what it throws comes out of the call. Of several, the latest counts.
 */
class ProgressScope {
public:
    /** Sets the callback. */
    explicit ProgressScope(Progress progress) : progress_(std::move(progress)), outer_(current()) { set(this); }
    /** Sets the callback that was there before. */
    ~ProgressScope() { set(outer_); }
    ProgressScope(const ProgressScope &) = delete;
    ProgressScope &operator=(const ProgressScope &) = delete;

private:
    static ProgressScope *&current() noexcept {
        thread_local ProgressScope *scope = nullptr;
        return scope;
    }

    static void set(ProgressScope *scope) noexcept {
        current() = scope;
        const bool is_set = scope != nullptr && scope->progress_;
        zt_set_progress(is_set ? &detail::report : nullptr, is_set ? &scope->progress_ : nullptr);
    }

    Progress progress_;
    ProgressScope *outer_;
};

/** Elements in memory that somebody else owns: what std::span is from C++20 on, to which it converts. */
template <class T>
class View {
public:
    /** No elements. */
    constexpr View() noexcept = default;
    /** `size` elements at `data`. A template, so that no number is taken for a pointer: to C++, 0 is one too. */
    template <class Pointer, class = std::enable_if_t<std::is_convertible_v<Pointer, T *>>>
    constexpr View(Pointer data, std::size_t size) noexcept : data_(data), size_(size) {}
    /** An array's elements. */
    template <std::size_t N>
    constexpr View(T (&array)[N]) noexcept : data_(array), size_(N) {}
    /** The elements of a vector, a std::array, a string, or whatever else has data() and size(). */
    template <class Container,
              class = std::enable_if_t<
                  !std::is_array_v<Container> &&
                  std::is_convertible_v<std::remove_pointer_t<decltype(std::declval<Container &>().data())> (*)[], T (*)[]> &&
                  std::is_convertible_v<decltype(std::declval<Container &>().size()), std::size_t>>>
    constexpr View(Container &&container) noexcept : data_(container.data()), size_(container.size()) {}

    /** The first element; may be NULL if there is none. */
    constexpr T *data() const noexcept { return data_; }
    /** The number of elements. */
    constexpr std::size_t size() const noexcept { return size_; }
    /** The number of bytes. */
    constexpr std::size_t size_bytes() const noexcept { return size_ * sizeof(T); }
    /** Whether there is no element. */
    constexpr bool empty() const noexcept { return size_ == 0; }
    /** An element; `at` is below size(), which is not checked. */
    constexpr T &operator[](std::size_t at) const { return data_[at]; }
    /** Where a loop begins. */
    constexpr T *begin() const noexcept { return data_; }
    /** Where a loop ends. */
    constexpr T *end() const noexcept { return data_ + size_; }
#ifdef __cpp_lib_span
    /** The same elements as C++20 has them. */
    constexpr operator std::span<T>() const noexcept { return {data_, size_}; }
#endif

private:
    T *data_ = nullptr;
    std::size_t size_ = 0;
};

/** The bits of a bfloat16: the upper half of a float. */
struct BFloat16 {
    /** Sign, 8 bits of exponent, 7 of mantissa. */
    std::uint16_t bits;
};

/** The bits of an IEEE binary16. */
struct Float16 {
    /** Sign, 5 bits of exponent, 10 of mantissa. */
    std::uint16_t bits;
};

/** The element type that a C++ type stands for. Specialise it for types of your own that have the same bytes. */
template <class T, class = void>
struct dtype_of;

/// @cond
template <>
struct dtype_of<double> : std::integral_constant<ZtDtype, ZT_FLOAT64> {};
template <>
struct dtype_of<float> : std::integral_constant<ZtDtype, ZT_FLOAT32> {};
template <>
struct dtype_of<Float16> : std::integral_constant<ZtDtype, ZT_FLOAT16> {};
template <>
struct dtype_of<BFloat16> : std::integral_constant<ZtDtype, ZT_BFLOAT16> {};
template <>
struct dtype_of<bool> : std::integral_constant<ZtDtype, ZT_BOOL> {};
template <>
struct dtype_of<std::complex<float>> : std::integral_constant<ZtDtype, ZT_COMPLEX64> {};
template <>
struct dtype_of<std::complex<double>> : std::integral_constant<ZtDtype, ZT_COMPLEX128> {};
// By size, since `long` and `long long` are different types of one size.
template <class T>
struct dtype_of<T, std::enable_if_t<std::is_integral_v<T> && !std::is_same_v<T, bool>>>
    : std::integral_constant<ZtDtype, sizeof(T) == 8   ? (std::is_signed_v<T> ? ZT_INT64 : ZT_UINT64)
                                      : sizeof(T) == 4 ? (std::is_signed_v<T> ? ZT_INT32 : ZT_UINT32)
                                      : sizeof(T) == 2 ? (std::is_signed_v<T> ? ZT_INT16 : ZT_UINT16)
                                                       : (std::is_signed_v<T> ? ZT_INT8 : ZT_UINT8)> {};

namespace detail {
template <class Handle, void (*Free)(Handle *)>
struct Freed {
    void operator()(Handle *handle) const noexcept { Free(handle); }
};
template <class Handle, void (*Free)(Handle *)>
using Owned = std::unique_ptr<Handle, Freed<Handle, Free>>;

/** Text for C, to which a NUL is the end: text that holds one is refused with `status`, not cut. */
inline const char *c_text(const std::string &text, const char *what, ZtStatus status = ZT_ERR_ARGUMENT) {
    if (text.find('\0') != std::string::npos) {
        throw Error(status, std::string(what) + " holds a NUL, after \"" + text.c_str() + '"');
    }
    return text.c_str();
}

/** The same of text that is left out where it is empty. */
inline const char *optional_c_text(const std::string &text, const char *what) {
    return text.empty() ? nullptr : c_text(text, what);
}

/** The element type that a C++ type stands for; 0 if `dtype_of` has none for it. */
template <class T, class = void>
struct known_dtype : std::integral_constant<ZtDtype, 0> {};
template <class T>
struct known_dtype<T, std::void_t<decltype(dtype_of<T>::value)>> : std::integral_constant<ZtDtype, dtype_of<T>::value> {};

/** Throws unless elements of type `dtype`, 0 for bytes of any type, may be taken for objects of type T. */
template <class T>
void check_dtype(ZtDtype dtype) {
    constexpr ZtDtype wanted = known_dtype<std::remove_cv_t<T>>::value;
    if (std::is_same_v<std::remove_cv_t<T>, std::byte> || dtype == 0 || dtype == wanted) {
        return;
    }
    const char *actual = zt_dtype_name(dtype), *asked = zt_dtype_name(wanted);
    throw Error(ZT_ERR_ARGUMENT, std::string("the elements are ") + (actual ? actual : "of an unknown type") + ", not " +
                                     (asked ? asked : "of a type for which ztensor::dtype_of is specialised") +
                                     "; std::byte gives the bytes of any type");
}

/** The element types of a tensor's components. */
class Described {
public:
    Described(const ZtReader *reader, std::size_t tensor) {
        const ZtStatus status = zt_reader_describe(reader, tensor, &tensor_, first_, 3);
        if (status == ZT_ERR_SIZE) {
            // A layout that is not known; 255 components are the most.
            rest_.resize(255);
            check(zt_reader_describe(reader, tensor, &tensor_, rest_.data(), rest_.size()));
        } else {
            check(status);
        }
    }
    std::size_t count() const noexcept { return tensor_.component_count; }
    /** 0 of a component that there is not, and of a type that this library does not know. */
    ZtDtype dtype(std::size_t at) const noexcept {
        return at >= count() ? 0 : rest_.empty() ? first_[at].dtype : rest_[at].dtype;
    }

private:
    ZtTensor tensor_;
    ZtComponent first_[3];
    std::vector<ZtComponent> rest_;
};

/** Bytes as elements; their number has to come out even. */
template <class T>
View<T> elements(void *data, std::size_t len, ZtDtype dtype) {
    static_assert(std::is_trivially_copyable_v<T>, "elements are plain bytes");
    check_dtype<T>(dtype);
    if (len % sizeof(T) != 0) {
        throw Error(ZT_ERR_SIZE, std::to_string(len) + " bytes are no whole number of elements of " +
                                     std::to_string(sizeof(T)) + " bytes");
    }
    return {static_cast<T *>(data), len / sizeof(T)};
}
}  // namespace detail
/// @endcond

/** The release of the library that is loaded, such as "1.2.3". */
inline std::string_view version() noexcept { return zt_version(); }

/** Bytes that were read. They belong to this object, which may outlive its Reader, and may be written to. */
class Buffer {
public:
    /** Takes over a handle, which may be NULL, of elements of a type; 0 for bytes that are not elements. */
    explicit Buffer(ZtBuffer *handle = nullptr, ZtDtype dtype = 0) noexcept : handle_(handle), dtype_(dtype) {}
    /** The same bytes as elements of a type. */
    Buffer(Buffer &&other, ZtDtype dtype) noexcept : handle_(std::move(other.handle_)), dtype_(dtype) {}

    /** The first byte, at a multiple of 64 where a whole component was read; NULL without a handle. */
    void *data() const noexcept { return zt_buffer_data(handle_.get()); }
    /** The number of bytes. */
    std::size_t size() const noexcept { return zt_buffer_len(handle_.get()); }
    /** The element type; 0 if the bytes are not elements, or if this library does not know the type. */
    ZtDtype dtype() const noexcept { return dtype_; }
    /**
     * The bytes as elements. Errors: ZT_ERR_ARGUMENT if the element type is not that of T (see dtype_of); std::byte takes
     * every type, and dtype() 0 is taken for every T. ZT_ERR_SIZE if the bytes are not a whole number of elements.
     */
    template <class T>
    View<T> as() const {
        return detail::elements<T>(data(), size(), dtype_);
    }
    /** The bytes as text. */
    std::string_view text() const noexcept { return {static_cast<const char *>(data()), size()}; }
    /** The handle, which stays this object's. */
    ZtBuffer *get() const noexcept { return handle_.get(); }

private:
    detail::Owned<ZtBuffer, zt_buffer_free> handle_;
    ZtDtype dtype_;
};

/** Components that were read together: Reader::read_many(). It may outlive its Reader. */
class Batch {
public:
    /** Takes over a handle. `dtypes` has the element type of each component; without it, types are not checked. */
    explicit Batch(ZtBatch *handle, std::vector<ZtDtype> dtypes = {}) : handle_(handle), dtypes_(std::move(dtypes)) {
        const std::size_t count = zt_batch_memory_count(handle);
        memory_.reserve(count);
        for (std::size_t at = 0; at < count; at++) {
            ZtBuffer *block = nullptr;
            check(zt_batch_memory(handle, at, &block));
            memory_.emplace_back(block);
        }
        std::size_t span_count = 0;
        const ZtSpan *first = nullptr;
        check(zt_batch_spans(handle, &first, &span_count));
        spans_ = {first, span_count};
    }

    /** The number of components: those of the first tensor, then those of the second, and so on. */
    std::size_t size() const noexcept { return spans_.size(); }
    /** A component's elements. Errors: ZT_ERR_RANGE, and as Buffer::as(). */
    template <class T>
    View<T> as(std::size_t component) const {
        if (component >= spans_.size()) {
            throw Error(ZT_ERR_RANGE, "the batch has " + std::to_string(spans_.size()) + " components");
        }
        const ZtSpan &span = spans_[component];
        char *start = static_cast<char *>(memory_[span.memory].data());
        return detail::elements<T>(span.len == 0 ? start : start + span.start, span.len, dtype(component));
    }
    /** A component's element type; 0 if it is not known. */
    ZtDtype dtype(std::size_t component) const noexcept { return component < dtypes_.size() ? dtypes_[component] : 0; }

private:
    detail::Owned<ZtBatch, zt_batch_free> handle_;
    std::vector<Buffer> memory_;
    View<const ZtSpan> spans_;
    std::vector<ZtDtype> dtypes_;
};

/** An open file. Any number of threads may use one. */
class Reader {
public:
    /** Opens a file: zt_reader_open(). */
    explicit Reader(const std::string &path, std::uint32_t flags = ZT_READ_MMAP, std::size_t threads = 0) {
        ZtReader *handle = nullptr;
        check(zt_reader_open(detail::c_text(path, "the path"), flags, threads, &handle));
        handle_.reset(handle);
    }

    /** Opens a file in memory, which stays the caller's and has to outlive this: zt_reader_open_memory(). */
    static Reader from_memory(const void *data, std::size_t len, std::uint32_t flags = ZT_READ_MMAP,
                              std::size_t threads = 0) {
        ZtReader *handle = nullptr;
        check(zt_reader_open_memory(data, len, flags, threads, &handle));
        return Reader(handle);
    }

    /** The number of tensors. */
    std::size_t size() const noexcept { return zt_reader_count(handle_.get()); }
    /** The format of the file, such as "zt/1". */
    std::string_view format() const noexcept { return zt_reader_format(handle_.get()); }

    /** What the file says of all tensors, in the order written. It belongs to this object. */
    View<const ZtTensor> tensors() const {
        const ZtTensor *first = nullptr;
        std::size_t count = 0;
        check(zt_reader_tensors(handle_.get(), &first, &count));
        return {first, count};
    }

    /** The number of a tensor, or nothing if the file has none of this name. */
    std::optional<std::size_t> find(const std::string &name) const {
        if (name.find('\0') != std::string::npos) {
            return std::nullopt;  // C would look for what stands before the NUL.
        }
        std::size_t number = 0;
        const ZtStatus status = zt_reader_find(handle_.get(), name.c_str(), &number);
        if (status == ZT_ERR_NOT_FOUND) {
            return std::nullopt;
        }
        check(status);
        return number;
    }

    /** The number of a tensor. Errors: ZT_ERR_NOT_FOUND. */
    std::size_t number(const std::string &name) const {
        std::size_t found = 0;
        check(zt_reader_find(handle_.get(), detail::c_text(name, "the tensor's name", ZT_ERR_NOT_FOUND), &found));
        return found;
    }

    /** The file's own key-values as JSON: zt_reader_metadata(). */
    std::string metadata() const {
        ZtBuffer *json = nullptr;
        check(zt_reader_metadata(handle_.get(), &json));
        return std::string(Buffer(json).text());
    }

    /** A tensor's own key-values as JSON: zt_reader_attributes(). */
    std::string attributes(std::size_t tensor) const {
        ZtBuffer *json = nullptr;
        check(zt_reader_attributes(handle_.get(), tensor, &json));
        return std::string(Buffer(json).text());
    }

    /** The checksum that the file states of a component, "" if none: zt_reader_checksum(). */
    std::string checksum(std::size_t tensor, std::size_t component = 0) const {
        ZtBuffer *text = nullptr;
        check(zt_reader_checksum(handle_.get(), tensor, component, &text));
        return std::string(Buffer(text).text());
    }

    /** Reads a component, decoded: zt_reader_read(). */
    Buffer read(std::size_t tensor, std::size_t component = 0, std::int32_t verify = ZT_VERIFY_AS_OPENED) const {
        ZtBuffer *found = nullptr;
        check(zt_reader_read(handle_.get(), tensor, component, verify, &found));
        return typed(found, tensor, component);
    }

    /** Reads a component of the tensor of a name. */
    Buffer read(const std::string &name, std::size_t component = 0, std::int32_t verify = ZT_VERIFY_AS_OPENED) const {
        return read(number(name), component, verify);
    }

    /** Reads `count` elements of a component, from element `first` on: zt_reader_read_range(). */
    Buffer read_range(std::size_t tensor, std::size_t component, std::uint64_t first, std::uint64_t count,
                      std::int32_t verify = ZT_VERIFY_AS_OPENED) const {
        ZtBuffer *found = nullptr;
        check(zt_reader_read_range(handle_.get(), tensor, component, first, count, verify, &found));
        return typed(found, tensor, component);
    }

    /** Reads a component's bytes as they are stored: zt_reader_read_stored(). */
    Buffer read_stored(std::size_t tensor, std::size_t component, std::int32_t verify = ZT_VERIFY_AS_OPENED) const {
        ZtBuffer *found = nullptr;
        check(zt_reader_read_stored(handle_.get(), tensor, component, verify, &found));
        return Buffer(found);
    }

    /** Reads all tensors of the file in one call: zt_reader_read_many(). */
    Batch read_all(std::int32_t verify = ZT_VERIFY_AS_OPENED) const {
        ZtBatch *found = nullptr;
        check(zt_reader_read_many(handle_.get(), nullptr, 0, verify, &found));
        detail::Owned<ZtBatch, zt_batch_free> owned(found);
        std::vector<ZtDtype> dtypes;
        for (const ZtTensor &tensor : tensors()) {
            for (std::size_t at = 0; at < tensor.component_count; at++) {
                dtypes.push_back(tensor.components[at].dtype);
            }
        }
        return Batch(owned.release(), std::move(dtypes));
    }

    /** Reads tensors in one call, and nothing if there are no numbers: zt_reader_read_many(). */
    Batch read_many(View<const std::size_t> tensors, std::int32_t verify = ZT_VERIFY_AS_OPENED) const {
        // To C, NULL stands for all tensors.
        static const std::size_t none = 0;
        ZtBatch *found = nullptr;
        check(zt_reader_read_many(handle_.get(), tensors.empty() ? &none : tensors.data(), tensors.size(), verify,
                                  &found));
        detail::Owned<ZtBatch, zt_batch_free> owned(found);
        std::vector<ZtDtype> dtypes;
        for (const std::size_t tensor : tensors) {
            const detail::Described described(handle_.get(), tensor);
            for (std::size_t at = 0; at < described.count(); at++) {
                dtypes.push_back(described.dtype(at));
            }
        }
        return Batch(owned.release(), std::move(dtypes));
    }

    /** The same for numbers that stand in the call, as in read_many({0, 2}). */
    Batch read_many(std::initializer_list<std::size_t> tensors, std::int32_t verify = ZT_VERIFY_AS_OPENED) const {
        return read_many(View<const std::size_t>(tensors.begin(), tensors.size()), verify);
    }

    /** Decodes components straight into memory of the caller: zt_reader_read_into(). */
    void read_into(View<const ZtTarget> targets, std::int32_t verify = ZT_VERIFY_AS_OPENED) const {
        check(zt_reader_read_into(handle_.get(), targets.data(), targets.size(), verify));
    }

    /** Decodes a component into `out`, which has exactly its bytes. Errors: ZT_ERR_ARGUMENT as of Buffer::as(). */
    template <class T>
    void read_into(std::size_t tensor, std::size_t component, View<T> out,
                   std::int32_t verify = ZT_VERIFY_AS_OPENED) const {
        detail::check_dtype<T>(detail::Described(handle_.get(), tensor).dtype(component));
        const ZtTarget target = {tensor, component, out.data(), out.size_bytes()};
        check(zt_reader_read_into(handle_.get(), &target, 1, verify));
    }

    /**
     * Checks every blob against its checksum: zt_reader_verify(). `progress` may be empty; it is given the bytes done and
     * the bytes to do, and stops the work by answering false, which is ZT_ERR_CANCELLED. What it throws comes out here.
     */
    void verify(const Progress &progress = {}) const {
        Progress own = progress;
        check(zt_reader_verify(handle_.get(), own ? &detail::report : nullptr, &own));
    }

    /** The handle, which stays this object's. */
    ZtReader *get() const noexcept { return handle_.get(); }

private:
    explicit Reader(ZtReader *handle) noexcept : handle_(handle) {}

    /** What was read of a component, with the type of its elements. */
    Buffer typed(ZtBuffer *found, std::size_t tensor, std::size_t component) const {
        Buffer untyped(found);
        const ZtDtype dtype = detail::Described(handle_.get(), tensor).dtype(component);
        return Buffer(std::move(untyped), dtype);
    }

    detail::Owned<ZtReader, zt_reader_free> handle_;
};

/** A component to be written: its elements and their type. The memory stays the caller's. */
struct Component : ZtComponentSpec {
    /** `len` bytes of elements of a type. */
    Component(const void *bytes, std::size_t length, ZtDtype type, std::uint64_t same_as = 0) noexcept
        : ZtComponentSpec{bytes, length, same_as, type, 0} {}
    /** The elements of an array, a vector or a view. */
    template <class Elements>
    explicit Component(const Elements &elements) noexcept
        : Component(elements.data(), elements.size() * sizeof(*elements.data()),
                    dtype_of<std::decay_t<decltype(*elements.data())>>::value) {}
};

/** A file that is being written. One that is destroyed before finish() leaves the file at its path, unless that is written in
 *  place (ZT_WRITE_IN_PLACE). */
class Writer {
public:
    /** Begins a file: zt_writer_create(). `metadata` is the text of a JSON object, or empty. */
    explicit Writer(const std::string &path, const std::string &metadata = {}, std::uint32_t flags = ZT_FSYNC_AUTO,
                    std::size_t threads = 0) {
        ZtWriter *handle = nullptr;
        check(zt_writer_create(detail::c_text(path, "the path"), flags, threads,
                               detail::optional_c_text(metadata, "the metadata"), &handle));
        handle_.reset(handle);
    }

    /** Begins a file in memory; finish_memory() gives its bytes. */
    static Writer in_memory(const std::string &metadata = {}, std::size_t threads = 0) {
        ZtWriter *handle = nullptr;
        check(zt_writer_create_memory(ZT_FSYNC_AUTO, threads, detail::optional_c_text(metadata, "the metadata"),
                                      &handle));
        return Writer(handle);
    }

    /** Lends memory to a file in memory, for as long as this object and its buffer are there: zt_writer_lend(). */
    void lend(void *memory, std::size_t size) { check(zt_writer_lend(handle_.get(), memory, size)); }

    /** Adds tensors, all or none: zt_writer_add(). Their memory must not change meanwhile. */
    void add(View<const ZtTensorSpec> tensors) { check(zt_writer_add(handle_.get(), tensors.data(), tensors.size())); }

    /**
     * Adds a tensor of any layout. Its element type is that of the first component. `level` 0 stores the bytes as they are,
     * 1 to 22 compresses them. `attributes` is the text of a JSON object, or empty; `blocksize` is for BSR and BSC.
     */
    void add(std::string_view name, ZtLayout layout, View<const std::uint64_t> shape, View<const Component> components,
             std::int32_t level = 0, std::string_view attributes = {}, std::pair<std::uint64_t, std::uint64_t> blocksize = {}) {
        const std::vector<ZtComponentSpec> specs(components.begin(), components.end());
        ZtTensorSpec tensor{};
        tensor.name = name.data();
        tensor.name_len = name.size();
        tensor.shape = shape.data();
        tensor.ndim = shape.size();
        tensor.components = specs.data();
        tensor.component_count = specs.size();
        tensor.attributes = attributes.empty() ? nullptr : attributes.data();
        tensor.attributes_len = attributes.size();
        tensor.blocksize[0] = blocksize.first;
        tensor.blocksize[1] = blocksize.second;
        tensor.dtype = specs.empty() ? 0 : specs.front().dtype;
        tensor.layout = layout;
        tensor.level = level;
        check(zt_writer_add(handle_.get(), &tensor, 1));
    }

    /** Adds a dense tensor: its dimensions, its elements in C order, and the level of compression, 0 for none. */
    template <class T>
    void add_dense(std::string_view name, std::initializer_list<std::uint64_t> shape, View<const T> values,
                   std::int32_t level = 0, std::string_view attributes = {}) {
        const Component data(values);
        add(name, ZT_DENSE, {shape.begin(), shape.size()}, {&data, 1}, level, attributes);
    }

    /** Adds a matrix of compressed sparse rows: its rows and columns, the values, their columns, where each row begins. */
    template <class T, class Index, class Start>
    void add_csr(std::string_view name, std::initializer_list<std::uint64_t> shape, const T &values,
                 const Index &columns, const Start &row_starts, std::int32_t level = 0) {
        const Component components[] = {Component(values), Component(columns), Component(row_starts)};
        add(name, ZT_SPARSE_CSR, {shape.begin(), shape.size()}, components, level);
    }

    /** Writes the index and gives the file its name: zt_writer_finish(). */
    void finish() { check(zt_writer_finish(handle_.get())); }

    /** Writes the index of a file in memory and gives its bytes: zt_writer_finish_memory(). */
    Buffer finish_memory() {
        ZtBuffer *found = nullptr;
        check(zt_writer_finish_memory(handle_.get(), &found));
        return Buffer(found);
    }

    /** The handle, which stays this object's. */
    ZtWriter *get() const noexcept { return handle_.get(); }

private:
    explicit Writer(ZtWriter *handle) noexcept : handle_(handle) {}

    detail::Owned<ZtWriter, zt_writer_free> handle_;
};

}  // namespace ztensor

#endif  // ZTENSOR_HPP
