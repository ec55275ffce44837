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
