/*
 * ztensor: tensor files that load without a copy, compress losslessly and detect damage.
 *
 * This header is generated from src/ffi; `make header` writes it. It is also the manual.
 *
 *
 * A FIRST LOOK
 *
 *     #include <stdio.h>
 *     #include "ztensor.h"
 *
 *     int main(void) {
 *         ZtReader *reader;
 *         if (zt_reader_open("model.zt", ZT_READ_MMAP, 0, &reader)) {
 *             fprintf(stderr, "%s\n", zt_last_error_message());
 *             return 1;
 *         }
 *         size_t number;
 *         ZtBuffer *weights;
 *         if (zt_reader_find(reader, "weights", &number) ||
 *             zt_reader_read(reader, number, 0, ZT_VERIFY_ON, &weights)) {
 *             fprintf(stderr, "%s\n", zt_last_error_message());
 *             zt_reader_free(reader);
 *             return 1;
 *         }
 *         zt_reader_free(reader);
 *         // A program that does not know what the file holds asks zt_reader_describe() first.
 *         const float *values = zt_buffer_data(weights);
 *         if (zt_buffer_len(weights) >= sizeof *values) printf("%f\n", values[0]);
 *         zt_buffer_free(weights);
 *         return 0;
 *     }
 *
 * tests/c has a program that writes and one that reads, with every layout.
 *
 *
 * CONVENTIONS
 *
 * Status     A function that can fail returns a ZtStatus: 0 is success, so `if (zt_...)` is the failure. What
 *            went wrong, in words, is zt_last_error_message().
 * Arguments  Receiver, inputs, outputs. A const receiver is not changed. Results leave through out_ pointers, which
 *            are written on success only, and never in part.
 * Ownership  Reader, writer, batch and buffer are opaque handles. Each has one _free function, which takes NULL.
 *            Buffers and batches outlive their reader. Everything else that a function points to belongs to the
 *            reader and lives as long, or as long as the library.
 * NULL       Is refused with ZT_ERR_NULL where nothing is said of it. An array may be NULL if its length is 0.
 * Handles    A handle of the wrong type, and usually one that was freed, is refused with ZT_ERR_ARGUMENT. That is a
 *            help in finding mistakes, not a promise: memory that was freed may hold anything by now. Functions that return
 *            no status give 0 or NULL for such a handle, and _free leaves it alone.
 * Threads    Any number of threads may use one reader. A writer is used by one at a time.
 * Text       UTF-8. Paths are the filesystem's bytes.
 * Numbers    Tensors are numbered from 0 in the order in which they were written, components from 0 in the order that
 *            the layout states. Lengths are bytes unless they are called counts.
 * Defects    No panic leaves the library; a defect is reported as ZT_ERR_PANIC.
 *
 *
 * FILES FROM STRANGERS
 *
 * Nothing in a file is executed. Opening checks every rule of the format that needs no tensor data, in memory that
 * follows the size of the index; reading checks the rest before memory is taken. Compressed data carries a checksum that
 * is always verified, raw data one that is verified on request. A file of a few kilobytes may hold a compressed tensor
 * of gigabytes (of zeros, say): look at `len` in the description before you read it.
 *
 * Whoever may write to a file while it is mapped can change bytes under the program, or end it with SIGBUS by truncating
 * the file. ZT_READ_OWNED reads instead of mapping.
 *
 *
 * GROUPS
 *
 * Errors: zt_last_error_message, zt_status_name. Version: zt_abi_version, zt_version.
 * Names of codes: zt_dtype_..., zt_layout_name, zt_role_name, zt_encoding_name, zt_filter_name.
 * Reading: zt_reader_... Bytes: zt_buffer_..., zt_batch_... Writing: zt_writer_...
 */
