# SPDX-License-Identifier: Apache-2.0
hs_test(ynlgen_test SOURCES ${CMAKE_CURRENT_LIST_DIR}/ynlgen_test.cpp LIBS ynlgen_lib)

# Whatever ynlgen can generate compiles and works, also what our own specs do not need.
set(hs_example ${CMAKE_CURRENT_LIST_DIR}/../data/specs)
ynlgen_generate(hs_example_files example handshake::example
                feature=${hs_example}/every-feature.yaml
                extension:feature=${hs_example}/extension.yaml)
hs_test(ynlgen_generated_test
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/ynlgen_generated_test.cpp ${hs_example_files}
  LIBS hs_protocol)

# Debian's own Python: the one in PATH may not have its modules. The first run downloads.
add_test(NAME spec.is_what_the_kernel_reads
  COMMAND /usr/bin/python3 ${CMAKE_CURRENT_LIST_DIR}/spec_schema_test.py ${CMAKE_SOURCE_DIR})
set_tests_properties(spec.is_what_the_kernel_reads PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 1500)

add_test(NAME ynlgen.command_line
  COMMAND /usr/bin/python3 ${CMAKE_CURRENT_LIST_DIR}/ynlgen_cli_test.py $<TARGET_FILE:ynlgen>
          ${CMAKE_SOURCE_DIR})
