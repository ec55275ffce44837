// A project of somebody else, in C++: it knows the installed library alone. An exception passes through no frame of
// the library, but unwinding has to work beside it, linked in whatever way.
#include <iostream>
#include <vector>

#include <ztensor.hpp>

int main() {
    const std::vector<float> values = {1, 2, 3};
    ztensor::Writer writer = ztensor::Writer::in_memory();
    writer.add_dense<float>("values", {3}, values);
    const ztensor::Buffer file = writer.finish_memory();
    const ztensor::Reader reader = ztensor::Reader::from_memory(file.data(), file.size());
    bool good = reader.read("values").as<float>()[2] == 3;
    try {
        (void)reader.read("nothing");
        good = false;
    } catch (const ztensor::Error &error) {
        good = good && error.status() == ZT_ERR_NOT_FOUND;
    }
    std::cout << ztensor::version() << (good ? " good\n" : " bad\n");
    return good ? 0 : 1;
}
