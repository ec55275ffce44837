// Writes a file of a dense, a compressed and a sparse tensor, and compares what another language wrote with it:
//
//	go build -o tensors . && ./tensors write mine.zt && ./tensors check theirs.zt
package main

// #cgo pkg-config: ztensor
// #include <stdlib.h>
// #include <ztensor.h>
import "C"

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"unsafe"
)

// call makes a call and turns its status into an error. The message belongs to the thread that made the call, so the
// goroutine stays on it until the message is read.
func call(body func() C.ZtStatus) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if status := body(); status != C.ZT_OK {
		return errors.New(C.GoString(C.zt_last_error_message()))
	}
	return nil
}

type component struct {
	dtype C.ZtDtype
	bytes []byte
}

type tensor struct {
	name       string
	layout     C.ZtLayout
	shape      []uint64
	level      int32
	components []component
}

// part takes elements as their bytes, without a copy.
func part[T any](dtype C.ZtDtype, values []T) component {
	size := len(values) * int(unsafe.Sizeof(values[0]))
	return component{dtype, unsafe.Slice((*byte)(unsafe.Pointer(&values[0])), size)}
}

// cycle gives bfloat16 values as bits: 1, 1.0078125, ..., 1.9921875 and again.
func cycle(count int) component {
	values := make([]uint16, count)
	for i := range values {
		values[i] = uint16(0x3f80 + i%128)
	}
	return part(C.ZT_BFLOAT16, values)
}

var tensors = []tensor{
	{"dense", C.ZT_DENSE, []uint64{2, 4}, 0, []component{cycle(8)}},
	{"compressed", C.ZT_DENSE, []uint64{256, 256}, 3, []component{cycle(65536)}},
	// 1 0 2
	// 0 3 0
	{"csr", C.ZT_SPARSE_CSR, []uint64{2, 3}, 0, []component{
		part(C.ZT_FLOAT32, []float32{1, 2, 3}),
		part(C.ZT_INT32, []int32{0, 2, 1}),
		part(C.ZT_INT64, []int64{0, 2, 3}),
	}},
}

// add hands a tensor over. What the structs point to is pinned, so that Go leaves it where it is during the call.
func add(writer *C.ZtWriter, tensor tensor) error {
	var pinner runtime.Pinner
	defer pinner.Unpin()
	parts := make([]C.ZtComponentSpec, len(tensor.components))
	for i, component := range tensor.components {
		pinner.Pin(&component.bytes[0])
		parts[i].data = unsafe.Pointer(&component.bytes[0])
		parts[i].len = C.size_t(len(component.bytes))
		parts[i].dtype = component.dtype
	}
	name := []byte(tensor.name)
	pinner.Pin(&name[0])
	pinner.Pin(&tensor.shape[0])
	pinner.Pin(&parts[0])
	spec := C.ZtTensorSpec{
		name:            (*C.char)(unsafe.Pointer(&name[0])),
		name_len:        C.size_t(len(name)),
		shape:           (*C.uint64_t)(&tensor.shape[0]),
		ndim:            C.size_t(len(tensor.shape)),
		components:      &parts[0],
		component_count: C.size_t(len(parts)),
		dtype:           parts[0].dtype,
		layout:          tensor.layout,
		level:           C.int32_t(tensor.level),
	}
	return call(func() C.ZtStatus { return C.zt_writer_add(writer, &spec, 1) })
}

func write(path string) error {
	cPath, metadata := C.CString(path), C.CString(`{"language": "Go"}`)
	defer C.free(unsafe.Pointer(cPath))
	defer C.free(unsafe.Pointer(metadata))
	var writer *C.ZtWriter
	if err := call(func() C.ZtStatus {
		return C.zt_writer_create(cPath, C.ZT_FSYNC_AUTO, 0, metadata, &writer)
	}); err != nil {
		return err
	}
	defer C.zt_writer_free(writer)
	for _, tensor := range tensors {
		if err := add(writer, tensor); err != nil {
			return err
		}
	}
	return call(func() C.ZtStatus { return C.zt_writer_finish(writer) })
}

// compareComponent reads a component and compares its bytes where they are.
func compareComponent(reader *C.ZtReader, number, at int, wanted component) error {
	var buffer *C.ZtBuffer
	if err := call(func() C.ZtStatus {
		return C.zt_reader_read(reader, C.size_t(number), C.size_t(at), C.ZT_VERIFY_ON, &buffer)
	}); err != nil {
		return err
	}
	defer C.zt_buffer_free(buffer)
	found := unsafe.Slice((*byte)(C.zt_buffer_data(buffer)), int(C.zt_buffer_len(buffer)))
	if !bytes.Equal(found, wanted.bytes) {
		return fmt.Errorf("tensor %d, component %d holds something else", number, at)
	}
	return nil
}

func check(path string) error {
	cPath := C.CString(path)
	defer C.free(unsafe.Pointer(cPath))
	var reader *C.ZtReader
	if err := call(func() C.ZtStatus {
		return C.zt_reader_open(cPath, C.ZT_READ_MMAP, 0, &reader)
	}); err != nil {
		return err
	}
	defer C.zt_reader_free(reader)
	var first *C.ZtTensor
	var count C.size_t
	if err := call(func() C.ZtStatus { return C.zt_reader_tensors(reader, &first, &count) }); err != nil {
		return err
	}
	for number, found := range unsafe.Slice(first, int(count)) {
		at := slices.IndexFunc(tensors, func(it tensor) bool { return it.name == C.GoString(found.name) })
		if at < 0 {
			return fmt.Errorf("%s is not expected", C.GoString(found.name))
		}
		wanted := tensors[at]
		shape := unsafe.Slice((*uint64)(found.shape), int(found.ndim))
		if found.layout != wanted.layout || !slices.Equal(shape, wanted.shape) {
			return fmt.Errorf("%s is %s of %v", wanted.name, C.GoString(found.layout_name), shape)
		}
		described := unsafe.Slice(found.components, int(found.component_count))
		for at, component := range wanted.components {
			if described[at].dtype != component.dtype {
				return fmt.Errorf("%s, component %d, is %s", wanted.name, at, C.GoString(described[at].dtype_name))
			}
			if err := compareComponent(reader, number, at, component); err != nil {
				return err
			}
		}
	}
	if int(count) != len(tensors) {
		return fmt.Errorf("%d tensors instead of %d", count, len(tensors))
	}
	return nil
}

func main() {
	actions := map[string]func(string) error{"write": write, "check": check}
	if len(os.Args) != 3 || actions[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: tensors write|check FILE")
		os.Exit(2)
	}
	if err := actions[os.Args[1]](os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
