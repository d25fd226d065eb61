# SPDX-License-Identifier: Apache-2.0
set(client_tests ${CMAKE_CURRENT_LIST_DIR}/client)

# The insides, from the static library.
hs_test(client_insides_test
  SOURCES ${client_tests}/record_test.cpp ${client_tests}/service_path_test.cpp ${client_tests}/patience_test.cpp
          ${client_tests}/fake_service.cpp
  LIBS hs_client_core)

# Sessions, also over the kernel's kTLS where there is one. Keys come from the agent's rooms.
if(TARGET hs_ktls AND TARGET hs_tls)
  hs_test(client_session_test
    SOURCES ${client_tests}/session_test.cpp ${client_tests}/fake_service.cpp
    LIBS hs_client_core hs_ktls hs_test_tls)
endif()

# What a program sees: the shared library and its header.
hs_test(client_test
  SOURCES ${client_tests}/context_test.cpp ${client_tests}/threads_test.cpp
          ${client_tests}/wrapper_test.cpp ${client_tests}/fake_service.cpp
  LIBS hs_client hs_protocol hs_transport)

hs_test(client_exports_test SOURCES ${client_tests}/exports_test.cpp LIBS hs_client)
# g++ 12 sees uninitialized members inside std::regex when it instruments for asan.
target_compile_options(client_exports_test PRIVATE
  $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
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

# What the documentation shows: the examples run as they are.
if(TARGET example_connect)
  hs_test(client_examples_test
    SOURCES ${client_tests}/examples_test.cpp ${client_tests}/fake_service.cpp
    LIBS hs_protocol hs_transport)
  target_compile_definitions(client_examples_test PRIVATE
    HS_EXAMPLE_CONNECT="$<TARGET_FILE:example_connect>" HS_EXAMPLE_ECHO="$<TARGET_FILE:example_echo>")
  add_dependencies(client_examples_test example_connect example_echo)

  # Installed somewhere, found by pkg-config and by find_package, and built against. A sanitized
  # library would need its users sanitized too.
  if(NOT HS_SANITIZE)
    add_test(NAME Install.ExamplesBuildAgainstTheInstalledLibrary
      COMMAND ${client_tests}/install_test.sh ${CMAKE_BINARY_DIR} ${CMAKE_SOURCE_DIR}/examples
              ${CMAKE_C_COMPILER} ${CMAKE_INSTALL_LIBDIR})
    set_tests_properties(Install.ExamplesBuildAgainstTheInstalledLibrary PROPERTIES TIMEOUT 300)
  endif()
endif()
