
add_library(@name@_agent STATIC @name@_agent.c)
target_link_libraries(@name@_agent PUBLIC @name@)
