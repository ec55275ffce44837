/* The ABI in numbers, on machines with 64-bit pointers: sizes and offsets of the public structs, and the constants.
 * A failure here means that programs which were compiled with an earlier header no longer work. */

#include "check.h"

#include <stddef.h>

#define CHECK_FIELD(type, field, where, bytes) \
    do {                                       \
        type value;                            \
        CHECK(offsetof(type, field) == where); \
        CHECK(sizeof value.field == bytes);    \
    } while (0)

static void test_codes(void) {
    CHECK(sizeof(ZtStatus) == 4 && (ZtStatus)-1 < 0);
    CHECK(sizeof(ZtDtype) == 4 && (ZtDtype)-1 < 0);
    CHECK(sizeof(ZtLayout) == 4 && (ZtLayout)-1 < 0);
    CHECK(sizeof(ZtRole) == 4 && (ZtRole)-1 < 0);
    CHECK(sizeof(ZtFilter) == 4 && (ZtFilter)-1 < 0);
    CHECK(sizeof(ZtEncoding) == 4 && (ZtEncoding)-1 < 0);
    CHECK(sizeof(ZtProgress) == 8);
}

static void test_structs(void) {
    CHECK(sizeof(ZtSpan) == 24);
    CHECK_FIELD(ZtSpan, memory, 0, 8);
    CHECK_FIELD(ZtSpan, start, 8, 8);
    CHECK_FIELD(ZtSpan, len, 16, 8);

    CHECK(sizeof(ZtComponent) == 80);
    CHECK_FIELD(ZtComponent, role_name, 0, 8);
    CHECK_FIELD(ZtComponent, dtype_name, 8, 8);
    CHECK_FIELD(ZtComponent, encoding_name, 16, 8);
    CHECK_FIELD(ZtComponent, offset, 24, 8);
    CHECK_FIELD(ZtComponent, stored_len, 32, 8);
    CHECK_FIELD(ZtComponent, len, 40, 8);
    CHECK_FIELD(ZtComponent, chunk_len, 48, 8);
    CHECK_FIELD(ZtComponent, crc32, 56, 4);
    CHECK_FIELD(ZtComponent, has_crc32, 60, 4);
    CHECK_FIELD(ZtComponent, role, 64, 4);
    CHECK_FIELD(ZtComponent, dtype, 68, 4);
    CHECK_FIELD(ZtComponent, encoding, 72, 4);
    CHECK_FIELD(ZtComponent, filter, 76, 4);

    CHECK(sizeof(ZtTensor) == 104);
    CHECK_FIELD(ZtTensor, name, 0, 8);
    CHECK_FIELD(ZtTensor, name_len, 8, 8);
    CHECK_FIELD(ZtTensor, shape, 16, 8);
    CHECK_FIELD(ZtTensor, ndim, 24, 8);
    CHECK_FIELD(ZtTensor, components, 32, 8);
    CHECK_FIELD(ZtTensor, component_count, 40, 8);
    CHECK_FIELD(ZtTensor, len, 48, 8);
    CHECK_FIELD(ZtTensor, blocksize, 56, 16);
    CHECK_FIELD(ZtTensor, dtype_name, 72, 8);
    CHECK_FIELD(ZtTensor, layout_name, 80, 8);
    CHECK_FIELD(ZtTensor, dtype, 88, 4);
    CHECK_FIELD(ZtTensor, layout, 92, 4);
    CHECK_FIELD(ZtTensor, has_attributes, 96, 4);
    CHECK_FIELD(ZtTensor, reserved, 100, 4);

    CHECK(sizeof(ZtTarget) == 32);
    CHECK_FIELD(ZtTarget, tensor, 0, 8);
    CHECK_FIELD(ZtTarget, component, 8, 8);
    CHECK_FIELD(ZtTarget, data, 16, 8);
    CHECK_FIELD(ZtTarget, len, 24, 8);

    CHECK(sizeof(ZtComponentSpec) == 32);
    CHECK_FIELD(ZtComponentSpec, data, 0, 8);
    CHECK_FIELD(ZtComponentSpec, len, 8, 8);
    CHECK_FIELD(ZtComponentSpec, share, 16, 8);
    CHECK_FIELD(ZtComponentSpec, dtype, 24, 4);
    CHECK_FIELD(ZtComponentSpec, reserved, 28, 4);

    CHECK(sizeof(ZtTensorSpec) == 96);
    CHECK_FIELD(ZtTensorSpec, name, 0, 8);
    CHECK_FIELD(ZtTensorSpec, name_len, 8, 8);
    CHECK_FIELD(ZtTensorSpec, shape, 16, 8);
    CHECK_FIELD(ZtTensorSpec, ndim, 24, 8);
    CHECK_FIELD(ZtTensorSpec, components, 32, 8);
    CHECK_FIELD(ZtTensorSpec, component_count, 40, 8);
    CHECK_FIELD(ZtTensorSpec, attributes, 48, 8);
    CHECK_FIELD(ZtTensorSpec, attributes_len, 56, 8);
    CHECK_FIELD(ZtTensorSpec, blocksize, 64, 16);
    CHECK_FIELD(ZtTensorSpec, dtype, 80, 4);
    CHECK_FIELD(ZtTensorSpec, layout, 84, 4);
    CHECK_FIELD(ZtTensorSpec, level, 88, 4);
    CHECK_FIELD(ZtTensorSpec, reserved, 92, 4);
}

static void test_constants(void) {
    CHECK(ZT_ABI_VERSION == 1);

    CHECK(ZT_READ_MMAP == 0);
    CHECK(ZT_READ_OWNED == 1);
    CHECK(ZT_READ_VERIFY == 2);
    CHECK(ZT_VERIFY_AS_OPENED == 0);
    CHECK(ZT_VERIFY_ON == 1);
    CHECK(ZT_VERIFY_OFF == 2);
    CHECK(ZT_FSYNC_AUTO == 0);
    CHECK(ZT_FSYNC_ALWAYS == 1);
    CHECK(ZT_FSYNC_NEVER == 2);
    CHECK(ZT_WRITE_IN_PLACE == 16);

    CHECK(ZT_OK == 0);
    CHECK(ZT_ERR_NULL == 1);
    CHECK(ZT_ERR_ARGUMENT == 2);
    CHECK(ZT_ERR_UTF8 == 3);
    CHECK(ZT_ERR_NOT_FOUND == 4);
    CHECK(ZT_ERR_DUPLICATE == 5);
    CHECK(ZT_ERR_RANGE == 6);
    CHECK(ZT_ERR_STATE == 7);
    CHECK(ZT_ERR_CANCELLED == 8);
    CHECK(ZT_ERR_IO == 20);
    CHECK(ZT_ERR_FILE_NOT_FOUND == 21);
    CHECK(ZT_ERR_SIGNATURE == 40);
    CHECK(ZT_ERR_VERSION == 41);
    CHECK(ZT_ERR_TRUNCATED == 42);
    CHECK(ZT_ERR_FOOTER == 43);
    CHECK(ZT_ERR_INDEX_CHECKSUM == 44);
    CHECK(ZT_ERR_INDEX == 45);
    CHECK(ZT_ERR_NAME == 46);
    CHECK(ZT_ERR_SHAPE == 47);
    CHECK(ZT_ERR_LAYOUT == 48);
    CHECK(ZT_ERR_OFFSET == 49);
    CHECK(ZT_ERR_OVERLAP == 50);
    CHECK(ZT_ERR_SIZE == 51);
    CHECK(ZT_ERR_ENCODING == 52);
    CHECK(ZT_ERR_FRAME == 53);
    CHECK(ZT_ERR_CHECKSUM == 54);
    CHECK(ZT_ERR_SPARSE == 55);
    CHECK(ZT_ERR_UNKNOWN_DTYPE == 56);
    CHECK(ZT_ERR_UNKNOWN_LAYOUT == 57);
    CHECK(ZT_ERR_UNKNOWN_ENCODING == 58);
    CHECK(ZT_ERR_LIMIT == 59);
    CHECK(ZT_ERR_PANIC == 90);
    CHECK(ZT_ERR_MEMORY == 91);

    CHECK(ZT_FLOAT64 == 1);
    CHECK(ZT_FLOAT32 == 2);
    CHECK(ZT_FLOAT16 == 3);
    CHECK(ZT_BFLOAT16 == 4);
    CHECK(ZT_INT64 == 5);
    CHECK(ZT_INT32 == 6);
    CHECK(ZT_INT16 == 7);
    CHECK(ZT_INT8 == 8);
    CHECK(ZT_UINT64 == 9);
    CHECK(ZT_UINT32 == 10);
    CHECK(ZT_UINT16 == 11);
    CHECK(ZT_UINT8 == 12);
    CHECK(ZT_BOOL == 13);
    CHECK(ZT_COMPLEX64 == 14);
    CHECK(ZT_COMPLEX128 == 15);
    CHECK(ZT_FLOAT8_E4M3FN == 16);
    CHECK(ZT_FLOAT8_E5M2 == 17);
    CHECK(ZT_FLOAT8_E4M3FNUZ == 18);
    CHECK(ZT_FLOAT8_E5M2FNUZ == 19);
    CHECK(ZT_FLOAT8_E8M0FNU == 20);
    CHECK(ZT_FLOAT4_E2M1FN_X2 == 21);

    CHECK(ZT_DENSE == 1);
    CHECK(ZT_SPARSE_CSR == 2);
    CHECK(ZT_SPARSE_CSC == 3);
    CHECK(ZT_SPARSE_COO == 4);
    CHECK(ZT_SPARSE_BSR == 5);
    CHECK(ZT_SPARSE_BSC == 6);

    CHECK(ZT_DATA == 1);
    CHECK(ZT_VALUES == 2);
    CHECK(ZT_INDICES == 3);
    CHECK(ZT_INDPTR == 4);

    CHECK(ZT_RAW == 1);
    CHECK(ZT_ZSTD == 2);

    CHECK(ZT_FILTER_NONE == 1);
    CHECK(ZT_FILTER_SHUFFLE == 2);
    CHECK(ZT_FILTER_FLOAT == 3);
    CHECK(ZT_FILTER_DELTA == 4);
}

int main(void) {
    CHECK(zt_abi_version() == ZT_ABI_VERSION);
    test_codes();
    test_structs();
    test_constants();
    return check_report("test_layout");
}
