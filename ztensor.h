/**
 * @mainpage ztensor.h
 *
 * Tensor files that load without a copy, compress losslessly and detect damage.
 *
 * This header is the manual. It is generated from src/ffi: `make header` writes it, `make docs` renders it.
 *
 * ## A first look
 *
 * A program that writes a file of one tensor and reads it back:
 *
 *     #include <stdio.h>
 *     #include <string.h>
 *     #include "ztensor.h"
 *
 *     static ZtStatus save(const char *path) {
 *         static const float values[2][3] = {{1, 2, 3}, {4, 5, 6}};
 *         static const uint64_t shape[] = {2, 3};
 *         ZtComponentSpec data = {0};
 *         ZtTensorSpec tensor = {0};
 *         data.data = values;
 *         data.len = sizeof values;
 *         data.dtype = ZT_FLOAT32;
 *         tensor.name = "weights";
 *         tensor.name_len = strlen(tensor.name);
 *         tensor.shape = shape;
 *         tensor.ndim = 2;
 *         tensor.dtype = ZT_FLOAT32;
 *         tensor.layout = ZT_DENSE;
 *         tensor.components = &data;
 *         tensor.component_count = 1;
 *         tensor.level = 3;
 *
 *         ZtWriter *writer;
 *         ZtStatus status = zt_writer_create(path, ZT_FSYNC_AUTO, 0, "{\"epoch\": 3}", &writer);
 *         if (status) return status;
 *         status = zt_writer_add(writer, &tensor, 1);
 *         if (!status) status = zt_writer_finish(writer);
 *         zt_writer_free(writer);
 *         return status;
 *     }
 *
 *     static ZtStatus load(const char *path) {
 *         ZtReader *reader;
 *         ZtBuffer *weights;
 *         size_t number;
 *         ZtStatus status = zt_reader_open(path, ZT_READ_MMAP, 0, &reader);
 *         if (status) return status;
 *         status = zt_reader_find(reader, "weights", &number);
 *         if (!status) status = zt_reader_read(reader, number, 0, ZT_VERIFY_ON, &weights);
 *         zt_reader_free(reader);
 *         if (status) return status;
 *         const float *values = zt_buffer_data(weights);
 *         size_t count = zt_buffer_len(weights) / sizeof *values;
 *         for (size_t i = 0; i < count; i++) printf("%g\n", values[i]);
 *         zt_buffer_free(weights);
 *         return ZT_OK;
 *     }
 *
 *     int main(void) {
 *         if (save("model.zt") || load("model.zt")) {
 *             fprintf(stderr, "%s\n", zt_last_error_message());
 *             return 1;
 *         }
 *         return 0;
 *     }
 *
 * To compile it: `cc program.c $(pkg-config --cflags --libs ztensor)`. A program that does not know what a file holds
 * asks zt_reader_tensors() or zt_reader_describe() first.
 *
 * ## Chapters
 *
 * In the order of this header: @ref handles, @ref status, @ref progress, @ref codes, @ref opening, @ref describing, @ref reading,
 * @ref bytes, @ref writing, @ref version.
 *
 * ## Conventions
 *
 * - **Status.** A function that can fail returns a ZtStatus: 0 is success, so `if (zt_...)` is the failure. What went
 *   wrong, in words, is zt_last_error_message(); if the operating system refused, zt_last_error_errno() is its number.
 * - **Arguments.** Receiver, inputs, outputs. A const receiver is not changed. Results leave through out_ pointers,
 *   which are written on success only, and never in part.
 * - **Ownership.** Reader, writer, batch and buffer are opaque handles. Each has one _free function, which takes NULL.
 *   Buffers and batches outlive their reader. Everything else that a function points to belongs to the reader and
 *   lives as long, or as long as the library.
 * - **NULL.** Is refused with ZT_ERR_NULL where nothing is said of it. An array may be NULL if its length is 0.
 * - **Handles.** A handle of the wrong type, and usually one that was freed, is refused with ZT_ERR_ARGUMENT. That is a
 *   help in finding mistakes, not a promise. To tell, the eight bytes that the pointer leads to are read, and memory that
 *   was freed may be gone by then, or hold anything, a new handle too. A pointer that never was a handle cannot be told for
 *   certain, nor one that another thread is freeing. Functions that return no status give 0 or NULL for such a handle, and
 *   _free leaves it alone.
 * - **Threads.** Any number of threads may use one reader, or one writer, whose calls wait for each other. Error messages
 *   are kept apart for each thread.
 * - **Long calls.** zt_set_progress() sets a callback that reports how far the calls of a thread are and can stop them.
 * - **Processes.** No thread of the library outlives the call that started it. After fork() the child may use its copies of
 *   readers, buffers and batches, even if other threads of the parent were reading; only not if one of them was in its first
 *   zt_reader_tensors(), zt_reader_shares() or zt_reader_attributes() on that reader. A file that is being written stays the
 *   parent's (see ZtWriter).
 * - **Text.** UTF-8. Paths are the filesystem's bytes.
 * - **Numbers.** Tensors are numbered from 0 in the order in which they were written, components from 0 in the order that
 *   the layout states. Lengths are bytes unless they are called counts.
 * - **Elements.** Little-endian, in C order, in the file as in memory.
 * - **Defects.** No panic leaves the library; a defect is reported as ZT_ERR_PANIC.
 *
 * ## What stays as it is
 *
 * "Since" says which ABI brought a function; what has no such line came with ABI 1. Within one ABI functions and
 * constants are added, and nothing that is there changes or goes: no signature, no number, no size or field of a struct.
 * A program that was compiled with an older header of the same ABI runs with a newer library. Sizes and offsets are those
 * of machines with 64-bit pointers.
 *
 * ## Files from strangers
 *
 * Nothing in a file is executed. Opening checks every rule of the format that needs no tensor data, in memory that
 * follows the size of the index; reading checks the rest before memory is taken. Compressed data carries a checksum that
 * is always verified, raw data one that is verified on request. A file of a few kilobytes may hold a compressed tensor
 * of gigabytes (of zeros, say): look at `len` in the description before you read it.
 *
 * Whoever may write to a file while it is mapped can change bytes under the program, or end it with SIGBUS by truncating
 * the file. ZT_READ_OWNED reads instead of mapping.
 *
 * ## Other languages
 *
 * C++ has `ztensor.hpp`, which stands beside this header: handles that free themselves, exceptions, views. What
 * understands declarations but no preprocessor, such as cffi in Python, takes this file without the lines that begin
 * with #, but for `#define ZT_...`, and without the two that say `extern "C"`. docs/c-api.md shows both.
 */

#ifndef ZTENSOR_H
#define ZTENSOR_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * @defgroup handles Handles
 *
 * What programs hold pointers to. Each has functions that make it and one that frees it.
 * @{
 */

/**
 * An open file. Opaque.
 *
 * Made by zt_reader_open() or zt_reader_open_memory(), freed once with zt_reader_free().
 * Threads: any number of threads may use one reader at once, without locks. Freeing it while another thread is
 * inside a call with it is undefined.
 */
typedef struct ZtReader ZtReader;

/**
 * Bytes in memory: a tensor's, or a text's. Opaque.
 *
 * The bytes belong to whoever holds the buffer: they may be written to, which changes neither the file nor
 * what is read later. They stay valid until the buffer is freed, however long its reader lives. Buffers of one
 * batch that refer to one block of memory see each other's writes.
 * Threads: a buffer may be handed to another thread; its bytes are plain memory.
 */
typedef struct ZtBuffer ZtBuffer;

/**
 * Components that were read together. Opaque.
 *
 * It holds a share of the memory, as every buffer that is taken from it does; they may be freed in any order.
 * Threads: may be used by several threads at once.
 */
typedef struct ZtBatch ZtBatch;

/**
 * A file that is being written. Opaque.
 *
 * Made by zt_writer_create() or zt_writer_create_memory(), freed once with zt_writer_free(). Nothing appears under the
 * file's name before zt_writer_finish(), unless it is written in place.
 * Threads: any number may use one writer; their calls wait for each other, and the work inside is spread over several. After
 * fork() it stays the parent's: the child's copy is refused with ZT_ERR_STATE, and freeing that leaves the parent's file alone.
 * A file in memory is in both, unless another thread was in a call on it at that moment: then the child cannot use its copy.
 */
typedef struct ZtWriter ZtWriter;

/** @} */

/**
 * @defgroup status Success and failure
 *
 * What calls answer, and how to learn more.
 * @{
 */

/**
 * The outcome of a call: ZT_OK, or one of the ZT_ERR_ numbers. Numbers are never given a second meaning.
 */
typedef int32_t ZtStatus;

/**
 * Success.
 */
#define ZT_OK 0

/**
 * A pointer that must not be NULL is NULL.
 */
#define ZT_ERR_NULL 1

/**
 * An argument is not what the call takes.
 */
#define ZT_ERR_ARGUMENT 2

/**
 * Text is not UTF-8.
 */
#define ZT_ERR_UTF8 3

/**
 * The file holds no tensor of this name.
 */
#define ZT_ERR_NOT_FOUND 4

/**
 * A tensor of this name was added before, or two tensors of a file have one name.
 */
#define ZT_ERR_DUPLICATE 5

/**
 * A number, or a range of elements, lies outside what there is.
 */
#define ZT_ERR_RANGE 6

/**
 * The writer was finished, or an earlier write failed, or it belongs to the process that this one was forked from.
 */
#define ZT_ERR_STATE 7

/**
 * The progress callback asked to stop.
 */
#define ZT_ERR_CANCELLED 8

/**
 * The operating system refused to read, write, map or rename.
 */
#define ZT_ERR_IO 20

/**
 * The file does not exist.
 */
#define ZT_ERR_FILE_NOT_FOUND 21

/**
 * The file does not begin with the signature of a .zt file.
 */
#define ZT_ERR_SIGNATURE 40

/**
 * The file is of a version that this library does not read.
 */
#define ZT_ERR_VERSION 41

/**
 * The file was truncated, appended to, or its writer did not finish.
 */
#define ZT_ERR_TRUNCATED 42

/**
 * The footer is damaged.
 */
#define ZT_ERR_FOOTER 43

/**
 * The index's checksum does not match.
 */
#define ZT_ERR_INDEX_CHECKSUM 44

/**
 * The index is not the structure that the format asks for.
 */
#define ZT_ERR_INDEX 45

/**
 * A tensor's name breaks the rules of names.
 */
#define ZT_ERR_NAME 46

/**
 * A tensor's shape breaks the rules of shapes.
 */
#define ZT_ERR_SHAPE 47

/**
 * A tensor's components do not fit its layout.
 */
#define ZT_ERR_LAYOUT 48

/**
 * A blob is misaligned or lies outside the part of the file that holds blobs.
 */
#define ZT_ERR_OFFSET 49

/**
 * Two blobs overlap without being the same.
 */
#define ZT_ERR_OVERLAP 50

/**
 * A byte count is not what shape and element type ask for, or memory of the caller has another length than what is
 * to be read.
 */
#define ZT_ERR_SIZE 51

/**
 * An encoding record contradicts itself or the component.
 */
#define ZT_ERR_ENCODING 52

/**
 * A compressed chunk is damaged.
 */
#define ZT_ERR_FRAME 53

/**
 * A blob's checksum does not match.
 */
#define ZT_ERR_CHECKSUM 54

/**
 * Index values of a sparse tensor break the rules of its layout.
 */
#define ZT_ERR_SPARSE 55

/**
 * The element type is not known to this library.
 */
#define ZT_ERR_UNKNOWN_DTYPE 56

/**
 * The layout is not known to this library.
 */
#define ZT_ERR_UNKNOWN_LAYOUT 57

/**
 * The encoding is not known to this library.
 */
#define ZT_ERR_UNKNOWN_ENCODING 58

/**
 * The file passes a limit of this library that the format does not set.
 */
#define ZT_ERR_LIMIT 59

/**
 * A defect of this library, caught at the border. Of the handle that was in use, only _free may be called.
 */
#define ZT_ERR_PANIC 90

/**
 * Memory could not be had, for a tensor's bytes, for an index, or for a list as long as the file has tensors. Small pieces are
 * taken for granted: where key-values, compression or the start of a thread find none, the process ends.
 */
#define ZT_ERR_MEMORY 91

/**
 * Tells what went wrong in the last call on this thread that failed.
 *
 * The text is in English and UTF-8, names the file, the tensor and the component where they are known, and
 * says what was found and what was expected. It is for people; programs look at the status.
 *
 * Ownership: the text belongs to the calling thread and stays valid until the next call on this thread that
 * fails. Calls that succeed, getters and the `_free` functions leave it alone. It is never NULL, and empty
 * if nothing failed yet.
 * Threads: every thread has a text of its own.
 * Since: ABI 1.
 */
const char *zt_last_error_message(void);

/**
 * Returns the `errno` of the last call on this thread that failed, such as EACCES or ENOSPC.
 *
 * It is the number with which the operating system refused, or the one that fits if the library found the obstacle
 * itself: EISDIR for a directory in the place of a file. It is 0 if the last failure had another cause, such as a
 * damaged file, and if nothing failed yet. The variable `errno` of the C library is neither read nor set.
 *
 * Threads: every thread has a number of its own, which stays as it is until the next call on it that fails.
 * Since: ABI 1.
 */
int32_t zt_last_error_errno(void);

/**
 * Returns the path of the file that the last call on this thread that failed was about.
 *
 * It is the path as zt_last_error_message() contains it: in UTF-8, with U+FFFD in the place of bytes that are not, and
 * "<memory>" for a file in memory. For a shard it is the path of the shard.
 *
 * Ownership: as of zt_last_error_message(). It is never NULL, and empty if no file is known or nothing failed yet.
 * Threads: every thread has a text of its own.
 * Since: ABI 1.
 */
const char *zt_last_error_file(void);

/**
 * Names a status, such as "CHECKSUM" for ZT_ERR_CHECKSUM, "OK" for ZT_OK. NULL for a number that is no status.
 *
 * Ownership: the text lives as long as the library is loaded.
 * Threads: any.
 * Since: ABI 1.
 */
const char *zt_status_name(ZtStatus status);

/** @} */

/**
 * @defgroup progress Long calls
 *
 * How far a call is, and how to stop it.
 * @{
 */

/**
 * Reports the progress of a call: bytes done and bytes to do. Anything but 0 asks the call to stop, which then fails with
 * ZT_ERR_CANCELLED. `user` is what the callback was set with.
 *
 * It is called on the thread that made the call, never on another one: first when the call has taken 50 ms, then about as
 * often, and at the end. A shorter call does not call it, except zt_reader_verify(). Between two reports lies the work at hand:
 * about a mebibyte of data, at the highest levels of compression up to 0.2 s. It must not unwind or jump out, nor use the
 * writer or change the memory that the call uses.
 */
typedef int32_t (*ZtProgress)(uint64_t done, uint64_t total, void *user);

/**
 * Sets what long calls of this thread report to, until it is set anew; NULL for nothing, as at first.
 *
 * These are zt_writer_add(), zt_reader_verify() without a callback of its own, and all functions that read tensors. The bytes
 * to do are those of all components that the call was given or asked for; of zt_reader_verify() those that are stored. Set it
 * before a call and to NULL after it: it holds for whatever else the thread does with this library.
 *
 * A zt_writer_add() that was stopped leaves a writer that can only be freed, and nothing of its file unless that is
 * written in place. Other calls that were
 * stopped had no effect. zt_writer_finish() cannot be stopped.
 *
 * Ownership: `user` stays the caller's, and valid for as long as it is set.
 * Threads: any; each has a callback of its own.
 * Since: ABI 1.
 */
void zt_set_progress(ZtProgress progress,
                     void *user);

/** @} */

/**
 * @defgroup codes Codes
 *
 * Numbers for what files spell as names: element types, layouts, roles, encodings, filters.
 * @{
 */

/**
 * An element type; 0 is one that this library does not know.
 */
typedef int32_t ZtDtype;

/**
 * IEEE binary64.
 */
#define ZT_FLOAT64 1

/**
 * IEEE binary32.
 */
#define ZT_FLOAT32 2

/**
 * IEEE binary16.
 */
#define ZT_FLOAT16 3

/**
 * The upper half of a binary32.
 */
#define ZT_BFLOAT16 4

/**
 * 64 bits, two's complement.
 */
#define ZT_INT64 5

/**
 * 32 bits, two's complement.
 */
#define ZT_INT32 6

/**
 * 16 bits, two's complement.
 */
#define ZT_INT16 7

/**
 * 8 bits, two's complement.
 */
#define ZT_INT8 8

/**
 * 64 bits, unsigned.
 */
#define ZT_UINT64 9

/**
 * 32 bits, unsigned.
 */
#define ZT_UINT32 10

/**
 * 16 bits, unsigned.
 */
#define ZT_UINT16 11

/**
 * 8 bits, unsigned.
 */
#define ZT_UINT8 12

/**
 * One byte, 0 or 1.
 */
#define ZT_BOOL 13

/**
 * Two binary32: real, imaginary.
 */
#define ZT_COMPLEX64 14

/**
 * Two binary64: real, imaginary.
 */
#define ZT_COMPLEX128 15

/**
 * 8-bit float: 4 bits of exponent, 3 of mantissa, no infinity.
 */
#define ZT_FLOAT8_E4M3FN 16

/**
 * 8-bit float: 5 bits of exponent, 2 of mantissa.
 */
#define ZT_FLOAT8_E5M2 17

/**
 * 8-bit float: 4 bits of exponent, 3 of mantissa, no infinity, no negative zero.
 */
#define ZT_FLOAT8_E4M3FNUZ 18

/**
 * 8-bit float: 5 bits of exponent, 2 of mantissa, no infinity, no negative zero.
 */
#define ZT_FLOAT8_E5M2FNUZ 19

/**
 * 8-bit power of two.
 */
#define ZT_FLOAT8_E8M0FNU 20

/**
 * Two 4-bit floats in a byte, the first in the low half; shapes count bytes.
 */
#define ZT_FLOAT4_E2M1FN_X2 21

/**
 * Names an element type as files spell it, such as "bfloat16". NULL for a code that is none: a loop from 1
 * up to NULL sees every type.
 *
 * Ownership: the text lives as long as the library is loaded.
 * Threads: any.
 * Since: ABI 1.
 */
const char *zt_dtype_name(ZtDtype dtype);

/**
 * Gives the bytes of one element; 0 for a code that is no element type.
 *
 * Threads: any.
 * Since: ABI 1.
 */
size_t zt_dtype_size(ZtDtype dtype);

/**
 * Finds an element type by the name that files spell.
 *
 * `name` is UTF-8 and NUL-terminated.
 * Threads: any.
 * Errors: ZT_ERR_NULL, ZT_ERR_UTF8, ZT_ERR_UNKNOWN_DTYPE. On error `*out_dtype` is unchanged.
 * Since: ABI 1.
 */
ZtStatus zt_dtype_from_name(const char *name, ZtDtype *out_dtype);

/**
 * A layout; 0 is one that this library does not know.
 */
typedef int32_t ZtLayout;

/**
 * All elements in C order. Component: data, of the tensor's shape.
 */
#define ZT_DENSE 1

/**
 * Compressed sparse rows, of a matrix. Components: values, one for each entry that is stored, row by row; indices, the
 * column of each; indptr, rows + 1 numbers: where each row begins among the values, and where the last one ends. Those
 * of indices and indptr, here as in the layouts below, are integers of any type, each component of its own.
 */
#define ZT_SPARSE_CSR 2

/**
 * Compressed sparse columns, of a matrix. Components: values, column by column; indices, the row of each; indptr,
 * columns + 1 numbers.
 */
#define ZT_SPARSE_CSC 3

/**
 * Coordinates, of one dimension or more. Components: values; indices, of shape [ndim, number of values]: the first
 * coordinate of each value, then the second of each, and so on. The order of the values is free.
 */
#define ZT_SPARSE_COO 4

/**
 * Block compressed sparse rows, of a matrix cut into blocks of one size, which divides its shape. Components: values, the
 * blocks that are stored, each in C order; indices, the block column of each; indptr, rows of blocks + 1 numbers.
 */
#define ZT_SPARSE_BSR 5

/**
 * Block compressed sparse columns. Components: values, the blocks, each in C order; indices, the block row of each;
 * indptr, columns of blocks + 1 numbers.
 */
#define ZT_SPARSE_BSC 6

/**
 * Names a layout as files spell it, such as "sparse_csr". NULL for a code that is none.
 *
 * Ownership: the text lives as long as the library is loaded.
 * Threads: any.
 * Since: ABI 1.
 */
const char *zt_layout_name(ZtLayout layout);

/**
 * What a component is to its layout; 0 is one that this library does not know.
 */
typedef int32_t ZtRole;

/**
 * The elements of a dense tensor.
 */
#define ZT_DATA 1

/**
 * The stored elements of a sparse tensor.
 */
#define ZT_VALUES 2

/**
 * Columns, rows or coordinates of the stored elements.
 */
#define ZT_INDICES 3

/**
 * Where each compressed row or column begins among the stored elements.
 */
#define ZT_INDPTR 4

/**
 * Names a role as files spell it, such as "indptr". NULL for a code that is none.
 *
 * Ownership: the text lives as long as the library is loaded.
 * Threads: any.
 * Since: ABI 1.
 */
const char *zt_role_name(ZtRole role);

/**
 * How a component is stored; 0 is one that this library does not know.
 */
typedef int32_t ZtEncoding;

/**
 * Bytes as they are.
 */
#define ZT_RAW 1

/**
 * Chunks of zstd frames.
 */
#define ZT_ZSTD 2

/**
 * Names an encoding as files spell it: "raw" or "zstd". NULL for a code that is none.
 *
 * Ownership: the text lives as long as the library is loaded.
 * Threads: any.
 * Since: ABI 1.
 */
const char *zt_encoding_name(ZtEncoding encoding);

/**
 * What was done to a chunk before it was compressed; 0 where nothing is compressed.
 */
typedef int32_t ZtFilter;

/**
 * Compressed as it is.
 */
#define ZT_FILTER_NONE 1

/**
 * Bytes of equal weight stand together.
 */
#define ZT_FILTER_SHUFFLE 2

/**
 * Shuffled, after the sign was rotated to the low end.
 */
#define ZT_FILTER_FLOAT 3

/**
 * Shuffled differences of neighbours.
 */
#define ZT_FILTER_DELTA 4

/**
 * Names a filter as files spell it, such as "shuffle". NULL for a code that is none.
 *
 * Ownership: the text lives as long as the library is loaded.
 * Threads: any.
 * Since: ABI 1.
 */
const char *zt_filter_name(ZtFilter filter);

/** @} */

/**
 * @defgroup opening Opening a file
 *
 * A reader is the way to everything in a file.
 * @{
 */

/**
 * Map the file: bytes come in when they are touched. This is the default. If somebody truncates the file
 * meanwhile, touching what was cut off ends the process with SIGBUS. A file that the system refuses to map is read as with
 * ZT_READ_OWNED.
 */
#define ZT_READ_MMAP 0

/**
 * Do not map the file: what is asked for is read into memory of the library's own, when it is asked for. For network
 * filesystems, and for files that somebody may truncate, which then is an error.
 */
#define ZT_READ_OWNED 1

/**
 * Check the checksum of raw data too, each time that it is read. Compressed data is always checked.
 */
#define ZT_READ_VERIFY 2

/**
 * Opens a local file and reads its index. No tensor is read yet.
 *
 * `path` is NUL-terminated, in the bytes of the filesystem. `flags` is ZT_READ_MMAP, or ZT_READ_OWNED, either
 * with ZT_READ_VERIFY or'ed to it. `threads` is how many threads a call may use; 0 for as many as the machine has.
 * A file from a stranger is safe to open: all that its index says is checked first, and memory follows the
 * size of the index, never a number found in it.
 *
 * The file may be of any format that zt_reader_format() names. One of "zt/2" may keep tensors in shards, which are files
 * beside it: these are opened too, and one that is missing or of another size is an error whose message names it.
 *
 * The reader holds the file open until it is freed, shards too. Whoever replaces the file meanwhile by renaming another
 * one over it, as zt_writer_finish() does, does not disturb the reader.
 *
 * Ownership: the caller frees `*out_reader` with zt_reader_free().
 * Threads: any.
 * Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT, ZT_ERR_FILE_NOT_FOUND, ZT_ERR_IO (also for what is no regular file, such as a
 * directory or a pipe), ZT_ERR_MEMORY, and ZT_ERR_SIGNATURE to ZT_ERR_LIMIT or ZT_ERR_DUPLICATE for a file that breaks a
 * rule of the format. On error `*out_reader` is unchanged.
 * Since: ABI 1.
 */
ZtStatus zt_reader_open(const char *path,
                        uint32_t flags,
                        size_t threads,
                        ZtReader **out_reader);

/**
 * Opens a file that is in memory, without copying it. Its tensors are copied when they are read.
 *
 * `flags` and `threads` as of zt_reader_open(); ZT_READ_OWNED has no meaning here. `data` may stand anywhere: nothing
 * is asked of its alignment.
 *
 * Ownership: the `len` bytes at `data` stay the caller's; they must stay valid and unchanged until the reader is
 * freed. Buffers that were read may outlive them. The caller frees `*out_reader` with zt_reader_free().
 * Threads: any.
 * Errors: as zt_reader_open(); ZT_ERR_FILE_NOT_FOUND for a file that has shards, since there is nothing beside it. On
 * error `*out_reader` is unchanged.
 * Since: ABI 1.
 */
ZtStatus zt_reader_open_memory(const void *data,
                               size_t len,
                               uint32_t flags,
                               size_t threads,
                               ZtReader **out_reader);

/**
 * Closes a file. NULL is fine. Buffers and batches that were read stay valid; descriptions and names do not.
 *
 * Threads: any, once, when no other call uses the reader.
 * Since: ABI 1.
 */
void zt_reader_free(ZtReader *reader);

/**
 * Gives the number of tensors; 0 if `reader` is NULL.
 *
 * Threads: any.
 * Since: ABI 1.
 */
size_t zt_reader_count(const ZtReader *reader);

/**
 * Names the format of the file: "zt/1" for the one that this library writes, "zten/0.1", "zten/1.0", "zten/1.1",
 * "zten/1.2" or "zt/2" for the older generations that it reads. NULL if `reader` is NULL.
 *
 * Ownership: the text lives as long as the library is loaded.
 * Threads: any.
 * Since: ABI 1.
 */
const char *zt_reader_format(const ZtReader *reader);

/** @} */

/**
 * @defgroup describing What a file holds
 *
 * Names, shapes, types and key-values. None of it touches the data of a tensor.
 * @{
 */

/**
 * What the file says of one component. All pointers belong to the reader.
 */
typedef struct {
  /**
   * Name of its role, NUL-terminated.
   */
  const char *role_name;
  /**
   * Name of its element type, NUL-terminated.
   */
  const char *dtype_name;
  /**
   * "raw", "zstd", or a name that this library does not know; NUL-terminated.
   */
  const char *encoding_name;
  /**
   * Where its blob begins in the file; of generation 2, in the shard that holds it.
   */
  uint64_t offset;
  /**
   * Bytes of its blob, as stored.
   */
  uint64_t stored_len;
  /**
   * Bytes, decoded; as stored where the encoding is not known.
   */
  uint64_t len;
  /**
   * Decoded bytes of a chunk; 0 where nothing is compressed, and in files of older generations.
   */
  uint64_t chunk_len;
  /**
   * CRC-32 of the stored bytes, if `has_crc32` is not 0. Checksums of another kind are given by zt_reader_checksum().
   */
  uint32_t crc32;
  /**
   * Whether `crc32` means something: 0 or 1.
   */
  int32_t has_crc32;
  /**
   * Its role.
   */
  ZtRole role;
  /**
   * Its element type.
   */
  ZtDtype dtype;
  /**
   * How it is stored.
   */
  ZtEncoding encoding;
  /**
   * What was done to each chunk before it was compressed.
   */
  ZtFilter filter;
} ZtComponent;

/**
 * What the file says of one tensor. All pointers belong to the reader.
 */
typedef struct {
  /**
   * Name in UTF-8, NUL-terminated.
   */
  const char *name;
  /**
   * Bytes of the name, without the NUL.
   */
  size_t name_len;
  /**
   * Dimensions; of a scalar there are none.
   */
  const uint64_t *shape;
  /**
   * The number of dimensions.
   */
  size_t ndim;
  /**
   * Components, in the order of the layout.
   */
  const ZtComponent *components;
  /**
   * The number of components.
   */
  size_t component_count;
  /**
   * Bytes of all components, decoded.
   */
  uint64_t len;
  /**
   * Rows and columns of a block, of ZT_SPARSE_BSR and ZT_SPARSE_BSC; 0 of other layouts.
   */
  uint64_t blocksize[2];
  /**
   * Name of the element type, NUL-terminated.
   */
  const char *dtype_name;
  /**
   * Name of the layout, NUL-terminated.
   */
  const char *layout_name;
  /**
   * Element type.
   */
  ZtDtype dtype;
  /**
   * Layout.
   */
  ZtLayout layout;
  /**
   * Whether zt_reader_attributes() has something to give: 0 or 1.
   */
  int32_t has_attributes;
  /**
   * 0.
   */
  int32_t reserved;
} ZtTensor;

/**
 * Finds the number of the tensor of a name. It takes the same time however many there are.
 *
 * `name` is UTF-8 and NUL-terminated.
 * Threads: any.
 * Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT, ZT_ERR_UTF8, ZT_ERR_NOT_FOUND. On error `*out_tensor` is unchanged.
 * Since: ABI 1.
 */
ZtStatus zt_reader_find(const ZtReader *reader, const char *name, size_t *out_tensor);

/**
 * Describes one tensor.
 *
 * `capacity` components fit at `out_components`; 3 are enough for every layout that this library knows, 255 for any
 * tensor. The description's `components` is `out_components`.
 *
 * Ownership: the structs are the caller's; what they point to besides belongs to the reader and lives as long.
 * Threads: any.
 * Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT, ZT_ERR_RANGE if there is no tensor of this number, ZT_ERR_SIZE if
 * `capacity` is too small. On error nothing is written.
 * Since: ABI 1.
 */
ZtStatus zt_reader_describe(const ZtReader *reader,
                            size_t tensor,
                            ZtTensor *out_tensor,
                            ZtComponent *out_components,
                            size_t capacity);

/**
 * Describes all tensors in one call, in the order written. Tensor number i is element i of the array.
 *
 * The array is made by the first call and costs some 200 bytes a tensor; a program that looks at few tensors of
 * many uses zt_reader_describe().
 * The shapes of all tensors stand behind each other, from the first one's `shape` on, and so do their components.
 *
 * Ownership: the array and all that it points to belong to the reader and live as long.
 * Threads: any.
 * Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT, ZT_ERR_MEMORY. On error nothing is written.
 * Since: ABI 1.
 */
ZtStatus zt_reader_tensors(const ZtReader *reader,
                           const ZtTensor **out_tensors,
                           size_t *out_count);

/**
 * Tells which components are the same blob, as those of tied weights are: a number for each component of all tensors, in
 * order. Components of the same number, other than 0, and the same element type are the same bytes; 0 stands for a
 * component that is alone. They are what ZtComponentSpec::share takes.
 *
 * Ownership: the array belongs to the reader and lives as long.
 * Threads: any.
 * Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT, ZT_ERR_MEMORY. On error nothing is written.
 * Since: ABI 1.
 */
ZtStatus zt_reader_shares(const ZtReader *reader,
                          const uint64_t **out_shares,
                          size_t *out_count);

/**
 * Gives the names of all tensors in one piece of text, in the order written, each followed by a NUL.
 *
 * Ownership: the text belongs to the reader and lives as long. `*out_len` counts the NULs too.
 * Threads: any.
 * Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT. On error nothing is written.
 * Since: ABI 1.
 */
ZtStatus zt_reader_names(const ZtReader *reader, const char **out_names, size_t *out_len);

/**
 * Gives the file's own key-values as the text of a JSON object; "{}" if there are none.
 *
 * Three kinds of MessagePack values that JSON cannot spell stand as objects of one key: {"$bytes": "00ff"} in
 * hexadecimal, {"$float": "nan"} (or "inf", "-inf"), {"$ext": [type, "00ff"]}.
 *
 * Ownership: the caller frees `*out_json` with zt_buffer_free(). A NUL follows its bytes.
 * Threads: any.
 * Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT, ZT_ERR_MEMORY. On error `*out_json` is unchanged.
 * Since: ABI 1.
 */
ZtStatus zt_reader_metadata(const ZtReader *reader, ZtBuffer **out_json);

/**
 * Gives a tensor's own key-values as the text of a JSON object, as zt_reader_metadata() does for the file.
 *
 * Ownership: the caller frees `*out_json` with zt_buffer_free(). A NUL follows its bytes.
 * Threads: any.
 * Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT, ZT_ERR_RANGE, ZT_ERR_MEMORY. On error `*out_json` is unchanged.
 * Since: ABI 1.
 */
ZtStatus zt_reader_attributes(const ZtReader *reader, size_t tensor, ZtBuffer **out_json);

/**
 * Gives the checksum that the file states of a component, as text: the algorithm, a colon, and the value in hexadecimal, such
 * as "crc32:1a2b3c4d"; "" if it states none.
 *
 * Our own files have the crc32 of the stored bytes, as in ZtComponent. Files of older generations also have crc32c, sha256
 * and xxh3 (of 64 bits), of the stored bytes, in generation 2 of the decoded ones.
 *
 * Ownership: the caller frees `*out_text` with zt_buffer_free(). A NUL follows its bytes.
 * Threads: any.
 * Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT, ZT_ERR_RANGE, ZT_ERR_MEMORY. On error `*out_text` is unchanged.
 * Since: ABI 1.
 */
ZtStatus zt_reader_checksum(const ZtReader *reader,
                            size_t tensor,
                            size_t component,
                            ZtBuffer **out_text);

/** @} */

/**
 * @defgroup reading Reading tensors
 *
 * One component, a part of one, or many tensors at once; into memory of the library's or of the caller's.
 * @{
 */

/**
 * Check raw data as the reader was opened.
 */
#define ZT_VERIFY_AS_OPENED 0

/**
 * Check raw data in this call.
 */
#define ZT_VERIFY_ON 1

/**
 * Do not check raw data in this call.
 */
#define ZT_VERIFY_OFF 2

/**
 * A component, and memory of the caller that it is to be read into.
 */
typedef struct {
  /**
   * The number of the tensor.
   */
  size_t tensor;
  /**
   * The number of the component.
   */
  size_t component;
  /**
   * Where the decoded bytes go.
   */
  void *data;
  /**
   * Bytes at `data`: exactly the component's decoded length.
   */
  size_t len;
} ZtTarget;

/**
 * Reads one component of a tensor, decoded.
 *
 * Raw data of a mapped file is not copied when it is large: the buffer is a private mapping, whose pages come in when
 * they are touched. Index components of sparse tensors are checked against the shape. `verify` is one of the three
 * ZT_VERIFY_ numbers.
 *
 * Ownership: the caller frees `*out_buffer` with zt_buffer_free(), before or after the reader. Its bytes may be
 * written to.
 * Threads: any.
 * Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT, ZT_ERR_RANGE, ZT_ERR_UNKNOWN_ENCODING; ZT_ERR_CHECKSUM, ZT_ERR_FRAME or
 * ZT_ERR_SPARSE for damage; with verification ZT_ERR_LAYOUT in a file of "zt/2" for a bool that is neither 0 nor 1;
 * ZT_ERR_UNKNOWN_DTYPE for compressed data of an unknown type; ZT_ERR_CANCELLED; ZT_ERR_MEMORY, ZT_ERR_IO, ZT_ERR_TRUNCATED. On
 * error `*out_buffer` is unchanged.
 * Since: ABI 1.
 */
ZtStatus zt_reader_read(const ZtReader *reader,
                        size_t tensor,
                        size_t component,
                        int32_t verify,
                        ZtBuffer **out_buffer);

/**
 * Reads `count` elements of a component, decoded, from element `first` on. Only the bytes or chunks that hold them
 * are touched; but with verification, all of a raw component is.
 *
 * For rows of a matrix in C order, `first` is the first row times the columns, `count` the rows times the columns.
 *
 * Ownership: the caller frees `*out_buffer` with zt_buffer_free(), before or after the reader.
 * Threads: any.
 * Errors: as zt_reader_read(), and ZT_ERR_RANGE if the component has fewer elements, ZT_ERR_UNKNOWN_DTYPE if their
 * size is not known. On error `*out_buffer` is unchanged.
 * Since: ABI 1.
 */
ZtStatus zt_reader_read_range(const ZtReader *reader,
                              size_t tensor,
                              size_t component,
                              uint64_t first,
                              uint64_t count,
                              int32_t verify,
                              ZtBuffer **out_buffer);

/**
 * Reads the bytes of a component as they are stored, whatever their encoding: the way to data of a type, layout or
 * encoding that this library does not know.
 *
 * Ownership: the caller frees `*out_buffer` with zt_buffer_free(), before or after the reader.
 * Threads: any.
 * Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT, ZT_ERR_RANGE, ZT_ERR_CHECKSUM, ZT_ERR_CANCELLED, ZT_ERR_MEMORY, ZT_ERR_IO,
 * ZT_ERR_TRUNCATED. On error `*out_buffer` is unchanged.
 * Since: ABI 1.
 */
ZtStatus zt_reader_read_stored(const ZtReader *reader,
                               size_t tensor,
                               size_t component,
                               int32_t verify,
                               ZtBuffer **out_buffer);

/**
 * Reads tensors, all components of each, in one call and on several threads.
 *
 * `tensors` holds `count` numbers of tensors; NULL with a `count` of 0 stands for all tensors of the file. Components
 * that are the same blob, as tied weights are, share their memory; raw data of a mapped file is not copied. Every block of memory
 * is returned to the system when nothing refers to it any more, so components of 1 MiB or more have a block each, unless there
 * are thousands of them, and smaller ones share blocks of up to 4 MiB.
 *
 * Mapped data takes memory only for pages that are written to. What cannot be allocated is ZT_ERR_MEMORY: read fewer tensors in
 * one call.
 *
 * Ownership: the caller frees `*out_batch` with zt_batch_free(), before or after the reader.
 * Threads: any.
 * Errors: as zt_reader_read(), and ZT_ERR_UNKNOWN_DTYPE, ZT_ERR_UNKNOWN_LAYOUT for what can only be read component by
 * component. On error `*out_batch` is unchanged.
 * Since: ABI 1.
 */
ZtStatus zt_reader_read_many(const ZtReader *reader,
                             const size_t *tensors,
                             size_t count,
                             int32_t verify,
                             ZtBatch **out_batch);

/**
 * Reads components into memory of the caller, decoding straight into it, in one call and on several threads.
 *
 * Ownership: the memory stays the caller's. The targets must not overlap. On an error it may have been written to.
 * Threads: any.
 * Errors: as zt_reader_read(), and ZT_ERR_SIZE for a target of another length.
 * Since: ABI 1.
 */
ZtStatus zt_reader_read_into(const ZtReader *reader,
                             const ZtTarget *targets,
                             size_t count,
                             int32_t verify);

/**
 * Reads elements of a component, as zt_reader_read_range() does, into memory of the caller.
 *
 * `len` is exactly the bytes that `count` elements take.
 *
 * Ownership: the memory stays the caller's. On an error it may have been written to.
 * Threads: any.
 * Errors: as zt_reader_read_range(), and ZT_ERR_SIZE for another `len`.
 * Since: ABI 1.
 */
ZtStatus zt_reader_read_range_into(const ZtReader *reader,
                                   size_t tensor,
                                   size_t component,
                                   uint64_t first,
                                   uint64_t count,
                                   int32_t verify,
                                   void *data,
                                   size_t len);

/**
 * Checks every blob of the file against its checksum, on several threads.
 *
 * `progress` may be NULL: then the callback of zt_set_progress() is called, if there is one. It is called on this
 * thread every 50 ms, and at the end of a file that is found good with two equal numbers; it may stop the work by
 * answering anything but 0. `user` is passed on to it. The bytes to do are those that are stored.
 *
 * A checksum that does not match means that the file was damaged, or that its bytes changed while they were saved: in the file,
 * or in the memory that zt_writer_add() read them from.
 *
 * Threads: any.
 * Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT; ZT_ERR_CHECKSUM or ZT_ERR_FRAME for the first damaged blob; ZT_ERR_LAYOUT in a
 * file of "zt/2" for a bool that is neither 0 nor 1; ZT_ERR_CANCELLED; ZT_ERR_MEMORY, ZT_ERR_IO, ZT_ERR_TRUNCATED.
 * Since: ABI 1.
 */
ZtStatus zt_reader_verify(const ZtReader *reader,
                          ZtProgress progress,
                          void *user);

/** @} */

/**
 * @defgroup bytes The bytes that were read
 *
 * Buffers and batches hold shares of memory and live as long as the program likes.
 * @{
 */

/**
 * Where a component's bytes lie in a batch.
 */
typedef struct {
  /**
   * The number of the block of memory.
   */
  size_t memory;
  /**
   * Where the component begins in the block, in bytes.
   */
  size_t start;
  /**
   * Bytes of the component.
   */
  size_t len;
} ZtSpan;

/**
 * Gives the first of a buffer's bytes; NULL if `buffer` is NULL.
 *
 * Whole components, decoded, begin at a multiple of 64 bytes. That of an empty buffer is not NULL, and points to nothing
 * that may be read.
 *
 * Ownership: valid until the buffer is freed.
 * Threads: any.
 * Since: ABI 1.
 */
void *zt_buffer_data(const ZtBuffer *buffer);

/**
 * Gives the number of a buffer's bytes; 0 if `buffer` is NULL.
 *
 * Threads: any.
 * Since: ABI 1.
 */
size_t zt_buffer_len(const ZtBuffer *buffer);

/**
 * Copies all of a buffer's bytes to memory of the caller, on up to `threads` threads, 0 for as many as the machine has.
 *
 * Where that memory is large and has not been touched yet, the system is asked for huge pages.
 *
 * Ownership: `len` bytes at `out` stay the caller's.
 * Threads: any; nobody else uses the bytes at `out` meanwhile.
 * Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT (also if `out` is part of the buffer), ZT_ERR_SIZE (`len` is not what
 * zt_buffer_len() gives). On error nothing is written.
 * Since: ABI 1.
 */
ZtStatus zt_buffer_copy(const ZtBuffer *buffer,
                        void *out,
                        size_t len,
                        size_t threads);

/**
 * Frees a buffer. NULL is fine.
 *
 * Its memory goes when no other buffer or batch shares it.
 * Threads: any, once.
 * Since: ABI 1.
 */
void zt_buffer_free(ZtBuffer *buffer);

/**
 * Gives where each component of a batch lies, in the order asked for: all components of the first tensor, then
 * all of the second, and so on. Components that are the same blob have the same span.
 *
 * zt_batch_memory() gives the block of memory of a span's number; the component's bytes begin `start` bytes after that
 * block's zt_buffer_data().
 *
 * Ownership: the array belongs to the batch and lives as long.
 * Threads: any.
 * Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT. On error nothing is written.
 * Since: ABI 1.
 */
ZtStatus zt_batch_spans(const ZtBatch *batch,
                        const ZtSpan **out_spans,
                        size_t *out_count);

/**
 * Gives the number of blocks of memory that a batch's components lie in; 0 if `batch` is NULL.
 *
 * Threads: any.
 * Since: ABI 1.
 */
size_t zt_batch_memory_count(const ZtBatch *batch);

/**
 * Gives a share of one of a batch's blocks of memory, as a buffer of all its bytes.
 *
 * Ownership: the caller frees `*out_buffer` with zt_buffer_free(), before or after the batch.
 * Threads: any.
 * Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT, ZT_ERR_RANGE. On error `*out_buffer` is unchanged.
 * Since: ABI 1.
 */
ZtStatus zt_batch_memory(const ZtBatch *batch, size_t number, ZtBuffer **out_buffer);

/**
 * Frees a batch. NULL is fine. Buffers that were taken from it stay valid.
 *
 * Threads: any, once.
 * Since: ABI 1.
 */
void zt_batch_free(ZtBatch *batch);

/** @} */

/**
 * @defgroup writing Writing a file
 *
 * Create, add, finish, free.
 * @{
 */

/**
 * Flush the file to the disk when it is about to replace an existing one. This is the default.
 */
#define ZT_FSYNC_AUTO 0

/**
 * Always flush the file to the disk before it takes its name.
 */
#define ZT_FSYNC_ALWAYS 1

/**
 * Never flush: after a power cut the name may hold an incomplete file.
 */
#define ZT_FSYNC_NEVER 2

/**
 * Write the destination itself, instead of a file beside it that replaces it once it is whole: added to one of the ZT_FSYNC_
 * numbers. For destinations that cannot be replaced by a rename: mount points, and filesystems that cannot rename. A save that
 * fails, a process that is killed, or a power cut leaves an incomplete file, and the old one is lost; processes that read or map
 * the old file see it change, and one that touches a page that is gone ends by SIGBUS. A file that this process has mapped is
 * refused.
 */
#define ZT_WRITE_IN_PLACE 16

/**
 * A component to be written. Set what you do not use to 0.
 */
typedef struct {
  /**
   * The elements, little-endian, in C order, at any alignment. Read during the call, not kept. No thread may write to
   * them meanwhile.
   */
  const void *data;
  /**
   * Bytes at `data`.
   */
  size_t len;
  /**
   * Components of one file that carry the same number, other than 0, and the same element type are the same bytes and
   * are stored once, as tied weights are, at the level of the first. The caller vouches for it; another length is
   * refused with ZT_ERR_ARGUMENT.
   */
  uint64_t share;
  /**
   * The element type.
   */
  ZtDtype dtype;
  /**
   * 0.
   */
  int32_t reserved;
} ZtComponentSpec;

/**
 * A tensor to be written. Set what you do not use to 0.
 */
typedef struct {
  /**
   * The name: 1 to 4096 bytes of UTF-8 without NUL, unique in the file.
   */
  const char *name;
  /**
   * Bytes of the name; nothing needs to follow them.
   */
  size_t name_len;
  /**
   * Dimensions; NULL for a scalar.
   */
  const uint64_t *shape;
  /**
   * The number of dimensions, at most 64.
   */
  size_t ndim;
  /**
   * The components, in the order in which the layout's constant names them.
   */
  const ZtComponentSpec *components;
  /**
   * The number of components.
   */
  size_t component_count;
  /**
   * The tensor's own key-values as the text of a JSON object, or NULL; as the file's in zt_writer_create(). The key
   * "blocksize" is not to be among them where `blocksize` is set.
   */
  const char *attributes;
  /**
   * Bytes of `attributes`.
   */
  size_t attributes_len;
  /**
   * Rows and columns of a block, for ZT_SPARSE_BSR and ZT_SPARSE_BSC, whose values have the shape
   * [blocks, rows, columns].
   */
  uint64_t blocksize[2];
  /**
   * The element type, which is that of the first component too.
   */
  ZtDtype dtype;
  /**
   * The layout.
   */
  ZtLayout layout;
  /**
   * 0 stores the bytes as they are, 1 to 22 compresses them; 3 is a good choice.
   */
  int32_t level;
  /**
   * 0.
   */
  int32_t reserved;
} ZtTensorSpec;

/**
 * Begins a file.
 *
 * It is written beside `path` and renamed to it when it is finished; until then, the file that is there stays. If the process
 * dies before, nothing is left where the filesystem has files without a name (ext4, XFS, Btrfs, tmpfs); elsewhere a temporary file
 * named `.NAME.ID.zt-tmp` is, which the next save into the directory removes once its writer is certainly dead. If the finished
 * file cannot be renamed, it is kept, and the error names it. `path` is NUL-terminated, in the bytes of the filesystem; a symbolic
 * link is followed. A relative one is looked up now: the file comes there, whatever the current directory is by then. What is there
 * must be a regular file that is not a mount point. It is replaced, and its mode is kept, and so are owner, group and extended
 * attributes where the process may set them. `flags` is one of the ZT_FSYNC_ numbers, to which ZT_WRITE_IN_PLACE may be added;
 * messages call that atomic=False. `threads` is how many threads compress and checksum, 0 for as many as
 * the machine has; the file's bytes are the same for any number. `metadata_json` is NULL or the text of a JSON object, in UTF-8
 * and NUL-terminated: the file's own key-values. They come back sorted by key. A key stands once in an object. Objects of one
 * key that begins with $ are what zt_reader_metadata() says of them, or refused; arrays and objects stand at most 63 deep.
 * JSON has one type of number: what is written as an integer is stored as one if 64 bits hold it, with or without a sign, and
 * else as the nearest double.
 *
 * Ownership: the caller frees `*out_writer` with zt_writer_free().
 * Threads: any.
 * Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT, ZT_ERR_UTF8, ZT_ERR_FILE_NOT_FOUND if the directory is not there, ZT_ERR_IO,
 * ZT_ERR_MEMORY. On error `*out_writer` is unchanged.
 * Since: ABI 1.
 */
ZtStatus zt_writer_create(const char *path,
                          uint32_t flags,
                          size_t threads,
                          const char *metadata_json,
                          ZtWriter **out_writer);

/**
 * Begins a file in memory; zt_writer_finish_memory() gives its bytes.
 *
 * The arguments are those of zt_writer_create(), without a path; there is nothing to flush or rename, so the flags make no
 * difference.
 *
 * Ownership: the caller frees `*out_writer` with zt_writer_free().
 * Threads: any.
 * Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT, ZT_ERR_UTF8, ZT_ERR_MEMORY. On error `*out_writer` is unchanged.
 * Since: ABI 1.
 */
ZtStatus zt_writer_create_memory(uint32_t flags,
                                 size_t threads,
                                 const char *metadata_json,
                                 ZtWriter **out_writer);

/**
 * Adds tensors, in this order: all of them, or if one is refused, none.
 *
 * The data is read during the call and not kept; it is neither copied nor converted. It is read more than once, so it must
 * not change during the call. If it does, the file is still readable, but holds any mixture of the bytes before and after, and
 * the checksum of an uncompressed tensor may not match.
 *
 * Ownership: `count` specs at `tensors`, and all that they point to, stay the caller's.
 * Threads: any; no thread writes to the data meanwhile.
 * Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT, ZT_ERR_UTF8, ZT_ERR_NAME, ZT_ERR_DUPLICATE, ZT_ERR_SHAPE, ZT_ERR_LAYOUT,
 * ZT_ERR_SIZE, ZT_ERR_SPARSE, ZT_ERR_UNKNOWN_DTYPE, ZT_ERR_UNKNOWN_LAYOUT: the call had no effect. ZT_ERR_IO,
 * ZT_ERR_MEMORY, ZT_ERR_LIMIT, ZT_ERR_CANCELLED: nothing is left of the file, and the writer can only be freed. ZT_ERR_STATE:
 * it was finished or failed before, or is another process's.
 * Since: ABI 1.
 */
ZtStatus zt_writer_add(ZtWriter *writer,
                       const ZtTensorSpec *tensors,
                       size_t count);

/**
 * Lends memory to a writer: the file in memory is written there, from its first byte on, for as long as it fits. Then, as where
 * none is lent, the library takes memory of its own.
 *
 * So a file that fits needs no copy: once zt_writer_finish_memory() has given a buffer whose zt_buffer_data() is `memory`, it is
 * there, zt_buffer_len() bytes long. A file takes the bytes of its tensors, up to 63 more for each component, or 4095 for an
 * uncompressed one of 256 KiB or more, and its index. What was written before is moved; memory that is too small for it is not used.
 * Where `memory` is large and has not been touched yet, huge pages are asked for.
 *
 * Ownership: `memory` stays the caller's. Nobody else uses it until the writer, and the buffer that it gave, are freed, or other
 * memory is in use.
 * Threads: any.
 * Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT (a file on disk), ZT_ERR_STATE (finished already, or failed before).
 * Since: ABI 1.
 */
ZtStatus zt_writer_lend(ZtWriter *writer,
                        void *memory,
                        size_t len);

/**
 * Writes the index and gives the file its name. The writer accepts no further call but zt_writer_free().
 *
 * Threads: any.
 * Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT (a file in memory), ZT_ERR_STATE (finished already, or failed before),
 * ZT_ERR_IO, ZT_ERR_FILE_NOT_FOUND, ZT_ERR_MEMORY, ZT_ERR_LIMIT: the file at the path stays, unless it is written in
 * place. A whole file that cannot be renamed is kept, and the message names it. One failure comes after the file took its name: that
 * the directory cannot be flushed, which the message says.
 * Since: ABI 1.
 */
ZtStatus zt_writer_finish(ZtWriter *writer);

/**
 * Writes the index of a file in memory and gives the file's bytes.
 *
 * Ownership: the caller frees `*out_buffer` with zt_buffer_free(), before or after the writer. Its bytes may be in the memory of
 * zt_writer_lend().
 * Threads: any.
 * Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT (a file on disk), ZT_ERR_STATE (finished already, or failed before),
 * ZT_ERR_MEMORY, ZT_ERR_LIMIT. On error `*out_buffer` is unchanged.
 * Since: ABI 1.
 */
ZtStatus zt_writer_finish_memory(ZtWriter *writer,
                                 ZtBuffer **out_buffer);

/**
 * Frees a writer. NULL is fine. A file that was not finished is abandoned: the file at its path stays. One that is written in
 * place is removed if this writer created it, and else left incomplete.
 *
 * Threads: once, when no other call uses the writer.
 * Since: ABI 1.
 */
void zt_writer_free(ZtWriter *writer);

/** @} */

/**
 * @defgroup dlpack Tensors of other libraries
 *
 * Many tensors of a library that speaks DLPack's C exchange, such as PyTorch, to specs and from batches: without a call and a Python object for each.
 * @{
 */

/**
 * Shows a tensor of another library: fills a DLTensor and answers 0, or anything else if it cannot. It is
 * `dltensor_from_py_object_no_sync` of that library's DLPackExchangeAPI.
 */
typedef int32_t (*ZtDlpackView)(void *object, void *out_dltensor);

/**
 * Makes a tensor of another library over a DLManagedTensorVersioned, which it takes over, and answers 0, or anything else
 * if it cannot. It is `managed_tensor_to_py_object_no_sync` of that library's DLPackExchangeAPI.
 */
typedef int32_t (*ZtDlpackWrap)(void *managed, void **out_object);

/**
 * Fills specs with what another library's tensors are: dense ones, in C order, in this process's memory.
 *
 * `objects` holds `count` tensors of the library that `view` belongs to. Of each spec shape, component, element type
 * and layout are set, of each component all; everything else is left as it is, so that name and level can stand there
 * already. Tensors with the same bytes at the same address get the same `share`, a number over `share_base` and up to
 * `share_base` + `count`; others, and empty ones, get 0.
 *
 * A DLTensor does not say how long the memory is that it points into. The caller checks that, or trusts the other library.
 *
 * Ownership: specs point to the tensors' own data, which belongs to the other library, and to shapes in `*out_shapes`,
 * which the caller frees with zt_buffer_free() once the specs are no longer used. On an error `*out_shapes` is
 * unchanged; specs and components may have been written to.
 * Threads: those on which `view` may be called; it is called on this one. The functions of a Python library want the
 * interpreter's lock to be held.
 * Errors: ZT_ERR_NULL; ZT_ERR_ARGUMENT, ZT_ERR_SHAPE or ZT_ERR_UNKNOWN_DTYPE for the first tensor that is something else,
 * or that `view` cannot show, in which case the other library says why; ZT_ERR_MEMORY.
 * Since: ABI 1.
 */
ZtStatus zt_dlpack_specs(ZtDlpackView view,
                         void *const *objects,
                         size_t count,
                         uint64_t share_base,
                         ZtTensorSpec *specs,
                         ZtComponentSpec *components,
                         ZtBuffer **out_shapes);

/**
 * Makes tensors of another library over what was read, without a copy.
 *
 * `reader`, `tensors` and `count` are those that the batch was read with by zt_reader_read_many(). `out_objects` gets as many
 * tensors that `wrap` made, zt_reader_count() of them where `tensors` is NULL: each dense one has all its own bytes and no
 * more, may be written to, and keeps the batch's memory for as long as it lives. NULL stands where no tensor was made: for a
 * sparse one, for one of a type that is not known, and for one whose blob an earlier tensor of the batch has too.
 *
 * Ownership: what `wrap` made is the caller's, however the call ends; on an error NULL stands in all other places, unless it
 * is `out_objects` that is refused, or how many it has cannot be told: for a `count` that no array has, or where `tensors` is
 * NULL, a wrong reader. Reader and batch may be freed before the tensors.
 * Threads: those on which `wrap` may be called; it is called on this one. The functions of a Python library want the
 * interpreter's lock to be held. The tensors may be given up on any thread.
 * Errors: ZT_ERR_NULL, ZT_ERR_RANGE, ZT_ERR_ARGUMENT (the batch was read otherwise, or `wrap` cannot make a tensor, in which
 * case the other library says why), ZT_ERR_MEMORY.
 * Since: ABI 1.
 */
ZtStatus zt_dlpack_tensors(const ZtReader *reader,
                           const size_t *tensors,
                           size_t count,
                           const ZtBatch *batch,
                           ZtDlpackWrap wrap,
                           void **out_objects);

/** @} */

/**
 * @defgroup version Versions
 *
 * The ABI has a number of its own, apart from the release's.
 * @{
 */

/**
 * The version of this header's functions and structs. Compare it with zt_abi_version() when the library is
 * loaded at run time.
 */
#define ZT_ABI_VERSION 1

/**
 * Gives the ABI version of the library that is loaded.
 *
 * It equals ZT_ABI_VERSION of the header that the library was built with.
 *
 * Threads: any.
 * Since: ABI 1.
 */
uint32_t zt_abi_version(void);

/**
 * Gives the release of the library that is loaded, such as "1.2.3".
 *
 * Ownership: the text lives as long as the library is loaded.
 * Threads: any.
 * Since: ABI 1.
 */
const char *zt_version(void);

/** @} */

#ifdef __cplusplus
}  // extern "C"
#endif

#endif  /* ZTENSOR_H */
