# SPDX-License-Identifier: Apache-2.0
set(client_tests ${CMAKE_CURRENT_LIST_DIR}/client)

# The insides, from the static library.
hs_test(client_insides_test
  SOURCES ${client_tests}/record_test.cpp ${client_tests}/session_test.cpp
          ${client_tests}/service_path_test.cpp ${client_tests}/patience_test.cpp
          ${client_tests}/fake_service.cpp
  LIBS hs_client_core)

# What a program sees: the shared library and its header.
hs_test(client_test
  SOURCES ${client_tests}/context_test.cpp ${client_tests}/threads_test.cpp
          ${client_tests}/fake_service.cpp
  LIBS hs_client hs_protocol hs_transport)

hs_test(client_exports_test SOURCES ${client_tests}/exports_test.cpp LIBS hs_client)
target_compile_definitions(client_exports_test PRIVATE
  HS_CLIENT_LIBRARY="$<TARGET_FILE:hs_client>")

add_executable(client_c_api_test ${client_tests}/c_api_test.c)
set_target_properties(client_c_api_test PROPERTIES C_STANDARD 11 C_EXTENSIONS OFF)
target_compile_options(client_c_api_test PRIVATE -Wall -Wextra -pedantic -Werror)
target_link_libraries(client_c_api_test PRIVATE hs_client)
add_test(NAME CApi.WorksFromAC11Program COMMAND client_c_api_test)

# Both ends: the library and the real service, the test as the agent.
if(TARGET hs_service)
  hs_test(client_service_test
    SOURCES ${client_tests}/service_test.cpp ${client_tests}/fake_service.cpp
    LIBS hs_client hs_service hs_transport)
endif()
