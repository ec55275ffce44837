// Writes a file of a dense, a compressed and a sparse tensor, and compares what another language wrote with it:
//
//     mvn compile dependency:copy-dependencies
//     java -cp 'target/classes:target/dependency/*' Tensors write mine.zt
//     java -cp 'target/classes:target/dependency/*' Tensors check theirs.zt

import com.sun.jna.Library;
import com.sun.jna.Memory;
import com.sun.jna.Native;
import com.sun.jna.Pointer;
import com.sun.jna.Structure;
import com.sun.jna.ptr.LongByReference;
import com.sun.jna.ptr.PointerByReference;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;
import java.util.Map;

public final class Tensors {
    /** Of ztensor.h, what is used here. size_t has 64 bits wherever the library runs. */
    public interface ZTensor extends Library {
        int ABI_VERSION = 1;
        int READ_MMAP = 0;
        int VERIFY_ON = 1;
        int FSYNC_AUTO = 0;
        int FLOAT32 = 2;
        int BFLOAT16 = 4;
        int INT64 = 5;
        int INT32 = 6;
        int DENSE = 1;
        int SPARSE_CSR = 2;

        int zt_abi_version();

        String zt_last_error_message();

        int zt_reader_open(String path, int flags, long threads, PointerByReference reader);

        int zt_reader_find(Pointer reader, String name, LongByReference number);

        int zt_reader_describe(Pointer reader, long number, TensorInfo tensor, ComponentInfo[] components, long capacity);

        int zt_reader_read(Pointer reader, long tensor, long component, int verify, PointerByReference buffer);

        void zt_reader_free(Pointer reader);

        Pointer zt_buffer_data(Pointer buffer);

        long zt_buffer_len(Pointer buffer);

        void zt_buffer_free(Pointer buffer);

        int zt_writer_create(String path, int flags, long threads, String metadata, PointerByReference writer);

        int zt_writer_add(Pointer writer, TensorSpec tensors, long count);

        int zt_writer_finish(Pointer writer);

        void zt_writer_free(Pointer writer);
    }

    @Structure.FieldOrder({"data", "len", "share", "dtype", "reserved"})
    public static class ComponentSpec extends Structure {
        public Pointer data;
        public long len;
        public long share;
        public int dtype;
        public int reserved;
    }

    @Structure.FieldOrder({
        "name", "nameLen", "shape", "ndim", "components", "componentCount", "attributes", "attributesLen", "blocksize",
        "dtype", "layout", "level", "reserved"
    })
    public static class TensorSpec extends Structure {
        public Pointer name;
        public long nameLen;
        public Pointer shape;
        public long ndim;
        public Pointer components;
        public long componentCount;
        public Pointer attributes;
        public long attributesLen;
        public long[] blocksize = new long[2];
        public int dtype;
        public int layout;
        public int level;
        public int reserved;
    }

    @Structure.FieldOrder({
        "roleName", "dtypeName", "encodingName", "offset", "storedLen", "len", "chunkLen", "crc32", "hasCrc32", "role",
        "dtype", "encoding", "filter"
    })
    public static class ComponentInfo extends Structure {
        public Pointer roleName;
        public Pointer dtypeName;
        public Pointer encodingName;
        public long offset;
        public long storedLen;
        public long len;
        public long chunkLen;
        public int crc32;
        public int hasCrc32;
        public int role;
        public int dtype;
        public int encoding;
        public int filter;
    }

    @Structure.FieldOrder({
        "name", "nameLen", "shape", "ndim", "components", "componentCount", "len", "blocksize", "dtypeName", "layoutName",
        "dtype", "layout", "hasAttributes", "reserved"
    })
    public static class TensorInfo extends Structure {
        public Pointer name;
        public long nameLen;
        public Pointer shape;
        public long ndim;
        public Pointer components;
        public long componentCount;
        public long len;
        public long[] blocksize = new long[2];
        public Pointer dtypeName;
        public Pointer layoutName;
        public int dtype;
        public int layout;
        public int hasAttributes;
        public int reserved;
    }

    private static final ZTensor LIBRARY =
            Native.load("ztensor", ZTensor.class, Map.of(Library.OPTION_STRING_ENCODING, "UTF-8"));

    private static final class Part {
        final int dtype;
        final byte[] bytes;

        Part(int dtype, ByteBuffer elements) {
            this.dtype = dtype;
            this.bytes = elements.array();
        }
    }

    private static final class Tensor {
        final String name;
        final int layout;
        final long[] shape;
        final int level;
        final List<Part> parts;

        Tensor(String name, int layout, long[] shape, int level, Part... parts) {
            this.name = name;
            this.layout = layout;
            this.shape = shape;
            this.level = level;
            this.parts = List.of(parts);
        }
    }

    private static ByteBuffer elements(int bytes) {
        return ByteBuffer.allocate(bytes).order(ByteOrder.LITTLE_ENDIAN);
    }

    /** bfloat16 values as bits: 1, 1.0078125, ..., 1.9921875 and again. */
    private static Part cycle(int count) {
        ByteBuffer values = elements(2 * count);
        for (int i = 0; i < count; i++) {
            values.putShort((short) (0x3f80 + i % 128));
        }
        return new Part(ZTensor.BFLOAT16, values);
    }

    private static final List<Tensor> TENSORS = List.of(
            new Tensor("dense", ZTensor.DENSE, new long[] {2, 4}, 0, cycle(8)),
            new Tensor("compressed", ZTensor.DENSE, new long[] {256, 256}, 3, cycle(65536)),
            // 1 0 2
            // 0 3 0
            new Tensor("csr", ZTensor.SPARSE_CSR, new long[] {2, 3}, 0,
                    new Part(ZTensor.FLOAT32, elements(12).putFloat(1).putFloat(2).putFloat(3)),
                    new Part(ZTensor.INT32, elements(12).putInt(0).putInt(2).putInt(1)),
                    new Part(ZTensor.INT64, elements(24).putLong(0).putLong(2).putLong(3))));

    /** The message belongs to the thread that made the call, which has to be the one that asks. */
    private static void check(int status) {
        if (status != 0) {
            throw new IllegalStateException(LIBRARY.zt_last_error_message());
        }
    }

    private static Memory copy(byte[] bytes) {
        Memory memory = new Memory(bytes.length);
        memory.write(0, bytes, 0, bytes.length);
        return memory;
    }

    private static void add(Pointer writer, Tensor tensor) {
        int count = tensor.parts.size();
        ComponentSpec[] parts = (ComponentSpec[]) new ComponentSpec().toArray(count);
        for (int i = 0; i < count; i++) {
            parts[i].data = copy(tensor.parts.get(i).bytes);
            parts[i].len = tensor.parts.get(i).bytes.length;
            parts[i].dtype = tensor.parts.get(i).dtype;
            parts[i].write();
        }
        byte[] name = tensor.name.getBytes(StandardCharsets.UTF_8);
        Memory shape = new Memory(8L * tensor.shape.length);
        shape.write(0, tensor.shape, 0, tensor.shape.length);
        TensorSpec spec = new TensorSpec();
        spec.name = copy(name);
        spec.nameLen = name.length;
        spec.shape = shape;
        spec.ndim = tensor.shape.length;
        spec.components = parts[0].getPointer();
        spec.componentCount = count;
        spec.dtype = parts[0].dtype;
        spec.layout = tensor.layout;
        spec.level = tensor.level;
        check(LIBRARY.zt_writer_add(writer, spec, 1));
    }

    private static void write(String path) {
        PointerByReference out = new PointerByReference();
        check(LIBRARY.zt_writer_create(path, ZTensor.FSYNC_AUTO, 0, "{\"language\": \"Java\"}", out));
        Pointer writer = out.getValue();
        try {
            TENSORS.forEach(tensor -> add(writer, tensor));
            check(LIBRARY.zt_writer_finish(writer));
        } finally {
            LIBRARY.zt_writer_free(writer);
        }
    }

    /** Whether layout, shape and element types are those of a tensor. */
    private static boolean isAlike(Pointer reader, long number, Tensor tensor) {
        TensorInfo info = new TensorInfo();
        // Every layout has three components or fewer.
        ComponentInfo[] parts = (ComponentInfo[]) new ComponentInfo().toArray(3);
        check(LIBRARY.zt_reader_describe(reader, number, info, parts, parts.length));
        boolean isAlike = info.layout == tensor.layout
                && info.componentCount == tensor.parts.size()
                && Arrays.equals(info.shape.getLongArray(0, (int) info.ndim), tensor.shape);
        for (int i = 0; i < tensor.parts.size(); i++) {
            isAlike &= parts[i].dtype == tensor.parts.get(i).dtype;
        }
        return isAlike;
    }

    private static byte[] read(Pointer reader, long number, int component) {
        PointerByReference out = new PointerByReference();
        check(LIBRARY.zt_reader_read(reader, number, component, ZTensor.VERIFY_ON, out));
        Pointer buffer = out.getValue();
        try {
            // getByteBuffer() would give the same bytes without a copy, for as long as the buffer is not freed.
            return LIBRARY.zt_buffer_data(buffer).getByteArray(0, Math.toIntExact(LIBRARY.zt_buffer_len(buffer)));
        } finally {
            LIBRARY.zt_buffer_free(buffer);
        }
    }

    private static void compare(String path) {
        PointerByReference out = new PointerByReference();
        check(LIBRARY.zt_reader_open(path, ZTensor.READ_MMAP, 0, out));
        Pointer reader = out.getValue();
        try {
            for (Tensor tensor : TENSORS) {
                LongByReference found = new LongByReference();
                check(LIBRARY.zt_reader_find(reader, tensor.name, found));
                long number = found.getValue();
                if (!isAlike(reader, number, tensor)) {
                    throw new IllegalStateException(tensor.name + " is of another kind");
                }
                for (int i = 0; i < tensor.parts.size(); i++) {
                    if (!Arrays.equals(read(reader, number, i), tensor.parts.get(i).bytes)) {
                        throw new IllegalStateException(tensor.name + ", component " + i + ", holds something else");
                    }
                }
            }
        } finally {
            LIBRARY.zt_reader_free(reader);
        }
    }

    public static void main(String[] arguments) {
        if (LIBRARY.zt_abi_version() != ZTensor.ABI_VERSION) {
            throw new IllegalStateException("this program was written for another library");
        }
        if (arguments.length == 2 && arguments[0].equals("write")) {
            write(arguments[1]);
        } else if (arguments.length == 2 && arguments[0].equals("check")) {
            compare(arguments[1]);
        } else {
            System.err.println("usage: Tensors write|check FILE");
            System.exit(2);
        }
    }

    private Tensors() {}
}
