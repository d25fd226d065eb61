# SPDX-License-Identifier: Apache-2.0
# A room is a directory below src/ and one target. hs_room(TARGET ROOM) lets whoever links TARGET
# include "ROOM/..." and nothing else below src/, so that a forbidden include does not compile.
function(hs_room target room)
  set(view ${CMAKE_BINARY_DIR}/rooms/${room})
  file(MAKE_DIRECTORY ${view})
  file(CREATE_LINK ${CMAKE_SOURCE_DIR}/src/${room} ${view}/${room} SYMBOLIC)
  target_include_directories(${target} PUBLIC ${view})
  hs_compile_options(${target})
endfunction()

# Warnings and sanitizers for anything of ours that is compiled.
function(hs_compile_options target)
  target_compile_options(${target} PRIVATE
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wnon-virtual-dtor
    -Wold-style-cast -Woverloaded-virtual -Wimplicit-fallthrough -Wswitch-enum
    $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety -Wno-missing-field-initializers>
    $<$<CXX_COMPILER_ID:GNU>:-Wno-missing-field-initializers>
    $<$<BOOL:${HS_FUZZ}>:-fsanitize=fuzzer-no-link>
    $<$<BOOL:${HS_WERROR}>:-Werror>)
  if(HS_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=${HS_SANITIZE} -fno-omit-frame-pointer
      -fno-sanitize-recover=all)
    target_link_options(${target} PUBLIC -fsanitize=${HS_SANITIZE})
  endif()
endfunction()

# hs_test(NAME SOURCES... LIBS...) - one GoogleTest program, each of its tests known to ctest.
function(hs_test name)
  cmake_parse_arguments(arg "" "" "SOURCES;LIBS;LABELS" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  hs_compile_options(${name})
  target_link_libraries(${name} PRIVATE ${arg_LIBS} GTest::gtest GTest::gtest_main)
  target_compile_definitions(${name} PRIVATE HS_SOURCE_DIR="${CMAKE_SOURCE_DIR}"
    HS_BINARY_DIR="${CMAKE_BINARY_DIR}")
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST
    PROPERTIES TIMEOUT 300 LABELS "${arg_LABELS}")
endfunction()
include(GoogleTest)
