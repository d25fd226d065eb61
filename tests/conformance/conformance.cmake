# SPDX-License-Identifier: Apache-2.0
hs_test(service_conformance
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/agent_wire_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/blocking_close_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/consumer_wire_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/done_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/endings_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/submit_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/kernel_answers_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/kunit_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/queue_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/races_test.cpp
  LIBS hs_service)

# The dummy agent: a handler class of its own, and a spec of its own.
ynlgen_generate(hs_dummy_files dummy handshake::dummy agent=${CMAKE_CURRENT_LIST_DIR}/dummy/dummy.yaml)
add_library(hs_dummy STATIC ${CMAKE_CURRENT_LIST_DIR}/dummy/dummy_agent.cpp ${hs_dummy_files})
hs_compile_options(hs_dummy)
target_link_libraries(hs_dummy PUBLIC hs_protocol hs_transport)
add_executable(hs_dummy_agent ${CMAKE_CURRENT_LIST_DIR}/dummy/main.cpp)
hs_compile_options(hs_dummy_agent)
target_link_libraries(hs_dummy_agent PRIVATE hs_dummy)
hs_test(service_socket_conformance
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/dummy_agent_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/never_reads_test.cpp
  LIBS hs_service hs_dummy hs_transport)

# The races are a program of their own: a million of them under the thread sanitizer, fewer where
# they prove less.
add_executable(hs_races ${CMAKE_CURRENT_LIST_DIR}/races.cpp)
hs_compile_options(hs_races)
target_link_libraries(hs_races PRIVATE hs_service)
if(HS_SANITIZE MATCHES "thread")
  set(hs_race_count 1000000)
else()
  set(hs_race_count 100000)
endif()
add_test(NAME conformance_races COMMAND hs_races ${hs_race_count})
set_tests_properties(conformance_races PROPERTIES TIMEOUT 1200 LABELS races)

# Which test shows what: printed, and a failure when a row has none.
add_test(NAME conformance_table
  COMMAND /usr/bin/python3 ${CMAKE_CURRENT_LIST_DIR}/coverage.py ${CMAKE_SOURCE_DIR})
