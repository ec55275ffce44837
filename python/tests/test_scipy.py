"""SciPy sparse matrices: stored as they are, entry for entry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import assert_same

import ztensor
import ztensor.numpy as ztn
from ztensor import Reader, Writer

sparse = pytest.importorskip("scipy.sparse")

Open = Callable[..., Reader]


def matrix(form: str, dtype: Any = np.float64, shape: tuple[int, int] = (60, 40)) -> Any:
    found = sparse.random(*shape, 0.2, format="csr", random_state=7)
    found.data = (found.data * 100).astype(dtype)
    # Of blocks, the size is told; SciPy would guess.
    return found.tobsr((3, 2)) if form == "bsr" else found.asformat(form)


def parts(found: Any) -> list[Any]:
    if found.format == "coo":
        return [found.data, *(found.coords if hasattr(found, "coords") else (found.row, found.col))]
    return [found.data, found.indices, found.indptr]


@pytest.mark.parametrize("compress", [False, True], ids=["raw", "zstd"])
@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr"])
def test_every_format_comes_back_entry_for_entry(form: str, compress: bool, path: Path, opened: Open) -> None:
    given = matrix(form)
    with Writer(path) as writer:
        writer.add_tensor("s", given, compress)
    with opened(path) as reader:
        assert (reader[0].layout, reader[0].shape, reader[0].dtype_str) == (f"sparse_{form}", (60, 40), "float64")
        found = reader["s"]
    assert type(found) is getattr(sparse, f"{form}_matrix")
    assert found.shape == given.shape
    for one, other in zip(parts(found), parts(given)):
        assert_same(one, other)


@pytest.mark.parametrize("form", ["dia", "dok", "lil"])
def test_formats_for_building_are_stored_as_csr(form: str, path: Path) -> None:
    given = matrix(form)
    with Writer(path) as writer:
        writer.add_tensor("s", given)
    with Reader(path) as reader:
        assert reader[0].layout == "sparse_csr"
        assert (reader["s"] != given.tocsr()).nnz == 0
    assert given.format == form


# Arrays and matrices: `*` of the one works element by element, of the other it is the product of matrices.


@pytest.mark.parametrize("kind", ["array", "matrix"])
@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr"])
def test_an_array_comes_back_as_an_array_and_a_matrix_as_a_matrix(form: str, kind: str, path: Path, opened: Open) -> None:
    given = getattr(sparse, f"{form}_{kind}")(matrix(form, shape=(60, 60)))
    ztn.save_file({"s": given, "t": given.T.asformat(form)}, path)
    with opened(path) as reader:
        for found in (reader["s"], reader.read_tensors(["t", "s"])[1], reader._load_all("numpy")["s"]):
            assert type(found) is type(given)
            for one, other in zip(parts(found), parts(given)):
                assert_same(one, other)
            assert_same((found * found).toarray(), (given * given).toarray())
        assert reader.metadata("s").attributes.get("sparse_class") == ("array" if kind == "array" else None)


@pytest.mark.parametrize("kind", ["array", "matrix"])
@pytest.mark.parametrize("form", ["dia", "dok", "lil"])
def test_formats_for_building_keep_their_kind(form: str, kind: str, path: Path) -> None:
    given = getattr(sparse, f"{form}_{kind}")(matrix(form))
    ztn.save_file({"s": given}, path)
    found = ztn.load_file(path)["s"]
    assert type(found) is getattr(sparse, f"csr_{kind}")
    assert_same(found.toarray(), given.toarray())


def test_the_mark_is_the_same_for_each_way_to_save(path: Path) -> None:
    given = sparse.csr_array(matrix("csr"))
    with Writer(path) as writer:
        writer.add_tensor("one", given, compress=True)
        writer.add_tensors({"dense": np.ones(3), "two": given, "matrix": matrix("csr"), "three": given.tocoo()})
    copy = path.with_name("copy.zt")
    ztensor.convert(path, copy)
    for where in (path, copy):
        with Reader(where) as reader:
            assert {one.name: one.attributes for one in reader} == {
                "one": {"sparse_class": "array"},
                "dense": {},
                "two": {"sparse_class": "array"},
                "matrix": {},
                "three": {"sparse_class": "array"},
            }
            assert [type(found) for found in reader.values()] == [
                sparse.csr_array,
                np.ndarray,
                sparse.csr_array,
                sparse.csr_matrix,
                sparse.coo_array,
            ]
    assert type(ztn.load(ztn.save({"s": given}))["s"]) is sparse.csr_array


def test_attributes_go_together_with_the_mark(path: Path) -> None:
    array, plain = sparse.csr_array(matrix("csr")), matrix("csr")
    with Writer(path) as writer:
        writer.add_tensor("array", array, attributes={"unit": "mm", "z": [1]})
        writer.add_tensor("matrix", plain, attributes={"unit": "mm"})
        writer.add_tensor("block", sparse.bsr_array(matrix("bsr")), attributes={"unit": "mm"})
    with Reader(path) as reader:
        assert reader.metadata("array").attributes == {"sparse_class": "array", "unit": "mm", "z": [1]}
        assert reader.metadata("matrix").attributes == {"unit": "mm"}
        assert type(reader["array"]) is sparse.csr_array and type(reader["matrix"]) is sparse.csr_matrix
        assert type(reader["block"]) is sparse.bsr_array
        with Writer(path) as writer:
            for name, value in reader.items():
                attributes = {key: item for key, item in reader.metadata(name).attributes.items() if key != "blocksize"}
                writer.add_tensor(name, value, attributes=attributes)
    assert type(Reader(path)["array"]) is sparse.csr_array


@pytest.mark.parametrize("kinds", [(np.int64, np.uint64), (np.uint64, np.int32), (np.uint32, np.int64)])
def test_coordinates_of_several_integer_types_stay_integers(kinds: tuple[Any, Any]) -> None:
    given = matrix("coo")
    # SciPy makes one type of those that it is given, but not of these.
    given.coords = (given.row.astype(kinds[0]), given.col.astype(kinds[1]))
    found = ztn.load(ztn.save({"s": given}))["s"]
    assert found.row.dtype.kind == "i"
    assert_same(found.toarray(), matrix("coo").toarray())


def test_coordinates_that_no_integer_type_holds_are_refused() -> None:
    given = matrix("coo")
    given.coords = (given.row.astype(np.uint64), given.col.astype(np.int64))
    given.coords[0][0] = 2**63
    with pytest.raises(ztensor.ArgumentError, match="tensor 's': coordinates of .*uint64, int64.* do not fit int64"):
        ztn.save({"s": given})


def test_attributes_that_contradict_the_object_are_refused(path: Path) -> None:
    array, plain = sparse.csr_array(matrix("csr")), matrix("csr")
    with Writer(path) as writer:
        for value, stated in ((array, "matrix"), (array, None), (plain, "array"), (plain, 3)):
            with pytest.raises(ztensor.ArgumentError, match=f"^{path}: tensor 's'.*sparse_class"):
                writer.add_tensor("s", value, attributes={"sparse_class": stated})
        # What is not of SciPy may be called either.
        writer.add_tensor("dense", np.ones(2), attributes={"sparse_class": "array"})
        writer.add_tensor("s", plain, attributes={"sparse_class": "matrix"})
    with Reader(path) as reader:
        assert type(reader["s"]) is sparse.csr_matrix and reader.metadata("s").attributes == {"sparse_class": "matrix"}
        assert_same(reader["dense"], np.ones(2))


@pytest.mark.parametrize("stated", [None, "", "table", 1, ["array"], {"array": 1}])
def test_another_programs_attribute_of_this_name_does_no_harm(stated: Any, path: Path) -> None:
    torch = pytest.importorskip("torch")
    with Writer(path) as writer:
        writer.add_tensor("s", torch.eye(3).to_sparse_csr(), attributes={"sparse_class": stated})
    assert type(Reader(path)["s"]) is sparse.csr_matrix


def test_tensors_of_torch_say_nothing_of_arrays(path: Path) -> None:
    torch = pytest.importorskip("torch")
    with Writer(path) as writer:
        writer.add_tensor("t", torch.eye(3).to_sparse_csr())
        writer.add_tensor("a", sparse.csr_array(np.eye(3)))
    with Reader(path) as reader:
        assert reader[0].attributes == {} and type(reader["t"]) is sparse.csr_matrix
        assert torch.equal(reader.read_tensor("a", to="torch").to_dense(), torch.eye(3, dtype=torch.float64))


# Matrices with room to spare: arrays longer than `indptr` says, as incremental building and other libraries leave them.


def roomy(form: str, kind: str, spare: int, other: int) -> Any:
    given = getattr(sparse, f"{form}_{kind}")(matrix(form))
    whole = given.copy()
    given.data = np.concatenate([given.data, np.full((spare, *given.data.shape[1:]), 9.0)])
    given.indices = np.concatenate([given.indices, np.full(other, 1, given.indices.dtype)])
    return given, whole


@pytest.mark.parametrize("compress", [False, True], ids=["raw", "zstd"])
@pytest.mark.parametrize("spare, other", [(2, 2), (0, 3), (5, 0), (1000, 1)])
@pytest.mark.parametrize("form, kind", [("csr", "matrix"), ("csc", "array"), ("bsr", "matrix"), ("csr", "array")])
def test_room_to_spare_is_not_stored(
    form: str, kind: str, spare: int, other: int, compress: bool, path: Path, opened: Open
) -> None:
    given, whole = roomy(form, kind, spare, other)
    with Writer(path) as writer:
        writer.add_tensor("s", given, compress)
        writer.add_tensors({"t": given, "u": given})
    with opened(path, verify=True) as reader:
        for found in reader.values():
            for one, expected in zip(parts(found), parts(whole)):
                assert_same(one, expected)
    # And it stays the caller's.
    assert len(given.data) == len(whole.data) + spare


def test_a_vector_with_room_to_spare_is_stored_as_its_entries(path: Path) -> None:
    vector = sparse.coo_array(np.array([0.0, 1, 0, 2]))
    if vector.ndim != 1:
        pytest.skip("this SciPy has no sparse vectors")
    given = vector.tocsr()
    given.data, given.indices = np.append(given.data, 7.0), np.append(given.indices, np.int32(3))
    ztn.save_file({"s": given}, path)
    assert_same(ztn.load_file(path)["s"].toarray(), vector.toarray())


def test_components_with_room_to_spare_are_refused(path: Path) -> None:
    # Whoever passes arrays says what is in them.
    given, _ = roomy("csr", "matrix", 2, 2)
    with Writer(path) as writer, pytest.raises(ztensor.ArgumentError, match='tensor "s"'):
        writer.add_sparse_csr("s", given.data, given.indices, given.indptr, given.shape)


@pytest.mark.parametrize("form", ["csr", "csc", "bsr"])
def test_a_matrix_of_fewer_entries_than_it_says_is_refused(form: str, path: Path) -> None:
    for name in ("data", "indices"):
        given = matrix(form)
        setattr(given, name, getattr(given, name)[:-1])
        with Writer(path) as writer, pytest.raises(ztensor.ArgumentError, match="tensor [\"']s"):
            writer.add_tensor("s", given)


@pytest.mark.parametrize(
    "dtype",
    [
        "float64",
        "float32",
        "int64",
        "int32",
        "int16",
        "int8",
        "uint64",
        "uint32",
        "uint16",
        "uint8",
        "bool",
        "complex64",
        "complex128",
    ],
)
def test_every_type_that_scipy_has_comes_back(dtype: str, path: Path) -> None:
    given = matrix("csr", dtype)
    with Writer(path) as writer:
        writer.add_tensor("s", given, compress=True)
    found = Reader(path)["s"]
    assert found.dtype == dtype
    assert_same(found.data, given.data)


def test_a_type_that_scipy_lacks_is_refused_by_name_and_read_by_torch(path: Path) -> None:
    values, indices = np.array([1, 2, 3], np.float16), np.array([[0, 1, 2]])
    with Writer(path) as writer:
        writer.add_sparse_coo("half", values, np.concatenate([indices, indices]), (4, 4))
    with Reader(path) as reader:
        with pytest.raises(ztensor.UnsupportedTensorError, match="'half'.*float16"):
            reader["half"]
        torch = pytest.importorskip("torch")
        assert reader.read_tensor("half", to="torch").dtype is torch.float16


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("form", ["csr", "csc", "bsr", "coo"])
def test_index_types_are_stored_as_given(form: str, dtype: str, path: Path) -> None:
    given = matrix(form)
    if form == "coo":
        given = sparse.coo_matrix((given.data, (given.row, given.col)), given.shape)
        given.coords = tuple(row.astype(dtype) for row in given.coords)
    else:
        given.indices, given.indptr = given.indices.astype(dtype), given.indptr.astype(dtype)
    with Writer(path) as writer:
        writer.add_tensor("s", given)
    with Reader(path) as reader:
        width = np.dtype(dtype).itemsize
        count = given.nnz * 2 if form == "coo" else len(given.indices) + len(given.indptr)
        assert reader[0].nbytes == given.data.nbytes + count * width
        assert (reader["s"] != given).nnz == 0


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", ">i4", ">u8"]
)
def test_indices_of_any_integer_type_are_taken(dtype: str, path: Path) -> None:
    values = np.array([1.0, 2.0, 3.0])
    indices, indptr = np.array([0, 2, 1], dtype), np.array([0, 2, 3], dtype)
    with Writer(path) as writer:
        writer.add_sparse_csr("csr", values, indices, indptr, (2, 3))
        writer.add_sparse_coo("coo", values, np.stack([np.array([0, 0, 1], dtype), indices]), (2, 3))
    with Reader(path) as reader:
        for found in (reader["csr"], reader["coo"]):
            assert_same(found.toarray(), [[1.0, 0, 2], [0, 3, 0]])


def test_unsorted_indices_duplicates_and_zeros_stay(path: Path) -> None:
    data = np.array([1.0, 2.0, 0.0, 4.0])
    csr = sparse.csr_matrix((data, np.array([3, 0, 1, 1]), np.array([0, 2, 4])), shape=(2, 4))
    coo = sparse.coo_matrix((data, (np.array([1, 0, 1, 1]), np.array([3, 0, 1, 1]))), shape=(2, 4))
    ztn.save_file({"csr": csr, "coo": coo}, path)
    found = ztn.load_file(path)
    for name, given in (("csr", csr), ("coo", coo)):
        for one, other in zip(parts(found[name]), parts(given)):
            assert_same(one, other)
    assert not csr.has_sorted_indices and csr.nnz == 4


@pytest.mark.parametrize("shape", [(3, 5), (1, 1), (4, 0), (0, 4), (0, 0)], ids=str)
@pytest.mark.parametrize("form", ["csr", "csc", "coo", "lil"])
def test_matrices_without_entries_come_back(form: str, shape: tuple[int, int], path: Path, opened: Open) -> None:
    try:
        given = sparse.csr_matrix(shape, dtype=np.float32).asformat(form)
    except ValueError:
        pytest.skip("this SciPy has no empty matrices")
    with Writer(path) as writer:
        writer.add_tensor("s", given, compress=True)
    with opened(path) as reader:
        found = reader["s"]
    assert (found.shape, found.nnz, found.dtype) == (shape, 0, np.float32)


def test_a_block_matrix_without_blocks_comes_back(path: Path) -> None:
    given = sparse.bsr_matrix((6, 4), blocksize=(3, 2), dtype=np.float32)
    with Writer(path) as writer:
        writer.add_tensor("s", given)
    found = Reader(path)["s"]
    assert (found.shape, found.nnz, found.blocksize) == ((6, 4), 0, (3, 2))


def test_block_columns_become_the_same_matrix(path: Path, rng: np.random.Generator) -> None:
    dense = np.zeros((4, 9), np.float32)
    dense[0:2, 3:6], dense[2:4, 0:3], dense[2:4, 6:9] = rng.random((3, 2, 3))
    values = np.stack([dense[2:4, 0:3], dense[0:2, 3:6], dense[2:4, 6:9]])
    with Writer(path) as writer:
        writer.add_sparse_bsc("s", values, np.array([1, 0, 1]), np.array([0, 1, 2, 3]), (4, 9))
    with Reader(path) as reader:
        assert reader[0].layout == "sparse_bsc"
        found = reader["s"]
    assert type(found) is sparse.bsr_matrix
    assert_same(found.toarray(), dense)


@pytest.mark.parametrize("ndim", [1, 3])
def test_coordinates_of_other_ranks_become_a_coo_array(ndim: int, path: Path) -> None:
    shape = (7, 5, 3)[:ndim]
    indices = np.array([[0, 6, 2], [4, 0, 1], [2, 1, 0]])[:ndim]
    with Writer(path) as writer:
        writer.add_sparse_coo("s", np.array([1.0, 2.0, 3.0]), indices, shape)
    with Reader(path) as reader:
        assert reader[0].shape == shape
        try:
            found = reader["s"]
        except ztensor.UnsupportedTensorError as err:
            pytest.skip(f"this SciPy: {err}")
    assert type(found) is sparse.coo_array
    assert_same(np.stack(found.coords).astype(np.int64), indices)


def test_vectors_are_stored_as_coordinates(path: Path) -> None:
    vector = sparse.coo_array(np.array([0.0, 1, 0, 2]))
    if vector.ndim != 1:
        pytest.skip("this SciPy has no sparse vectors")
    ztn.save_file({"coo": vector, "csr": vector.tocsr()}, path)
    for name, found in ztn.load_file(path).items():
        assert Reader(path).metadata(name).layout == "sparse_coo"
        assert_same(found.toarray(), vector.toarray())


def test_a_matrix_that_was_read_is_the_callers_own(path: Path, opened: Open) -> None:
    given = matrix("csr", shape=(500, 700))
    with Writer(path) as writer:
        writer.add_tensor("s", given)
    before = path.read_bytes()
    with opened(path) as reader:
        found = reader["s"]
        found.data[:] = -1
        found.indices[:] = 0
        assert (reader["s"] != given).nnz == 0
    assert path.read_bytes() == before


def test_a_matrix_whose_own_indices_are_broken_is_refused(path: Path) -> None:
    given = matrix("csr")
    given.indices = given.indices.copy()
    given.indices[5] = 40
    with Writer(path) as writer, pytest.raises(ztensor.ArgumentError, match='tensor "s", component "indices"'):
        writer.add_tensor("s", given)


def test_strided_and_big_endian_parts_are_packed(path: Path) -> None:
    given = sparse.csr_matrix(matrix("csr"))
    doubled = np.empty(2 * given.nnz)
    doubled[::2] = given.data
    with Writer(path) as writer:
        writer.add_sparse_csr(
            "s", doubled[::2], given.indices.astype(">i4"), given.indptr.astype(">i8"), np.array(given.shape)
        )
    assert (Reader(path)["s"] != given).nnz == 0
